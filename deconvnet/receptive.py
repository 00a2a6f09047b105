"""Receptive fields: what one position of a layer sees, of the image and of every map between.

Theoretical ones, by pulling the position down through every window; where branches meet, the hull.
They agree with the paper's geometry: 7, 11, 27, 43, 75, 107, 139 and 171 pixels for ZFNet.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from deconvnet.nodes import INPUT, Node
from deconvnet.region import Patch, Region, Span, whole_patch

if TYPE_CHECKING:
    from deconvnet.network import Network

Plan = Mapping[int, Patch]


def map_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of a node's output; a vector of features is a 1×1 map."""
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


def plan(nodes: Sequence[Node], place: int) -> Plan:
    """For every node at or below `place`, the patch of its map that one position sees."""
    patches = {place: Patch(Span(1, 0, 1), Span(1, 0, 1))}
    for above in range(place, INPUT, -1):
        if above not in patches:
            continue
        op = nodes[above].op
        assert op is not None
        if op.window is None:  # it goes down from its whole map
            patches[above] = whole_patch(map_size(nodes[above].shape))
        for below in nodes[above].inputs:
            size = map_size(nodes[below].shape)
            seen = patches[above].pull(op.window) if op.window else whole_patch(size)
            if below in patches:
                seen = patches[below].hull(seen, size)
            patches[below] = seen.limit(size)
    return patches


def reach(nodes: Sequence[Node], place: int) -> tuple[int, int]:
    """(receptive field, jump) of a node in pixels; the longer side where they differ.

    A layer that sees everything (after a fully connected one) has the whole image as its field and
    jump 0.
    """
    patch = plan(nodes, place).get(INPUT)
    if patch is None:
        return (0, 0)
    return max(patch.y.size, patch.x.size), max(patch.y.jump, patch.x.jump)


def field(net: "Network", layer: str, y: int, x: int) -> Region:
    """What position (y, x) of a layer sees, in pixels; it may reach beyond the image.

    Raises:
        AddressError: no such layer.
    """
    place = net.find(layer)
    key = ("field", place)
    if key not in net.cache:
        net.cache[key] = plan(net.nodes, place)[INPUT]
    patch: Patch = net.cache[key]
    return patch.at(y, x)
