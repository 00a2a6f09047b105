"""Receptive fields: what outputs of a layer see of the image and of every map between.

One walk down does it for whatever moves through a window: a `Patch` that moves with a unit's
position, or the `Boxes` of given positions. The fields are theoretical; where branches meet, the
hull. They agree with the paper's geometry: 7, 11, 27, 43, 75, 107, 139 and 171 pixels for ZFNet.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Protocol, TypeVar

from deconvnet.geometry.boxes import Boxes, NodeBoxes, inside, whole
from deconvnet.geometry.region import INPUT, Patch, Span, Window, Windowed, map_size, whole_patch

Plan = Mapping[int, Patch]
Size = tuple[int, int]


class Pulled(Protocol):
    """What goes down through windows."""

    def pull(self: "T", window: Window) -> "T":
        """What it sees through a window."""


T = TypeVar("T", bound=Pulled)


def pull(
    nodes: Sequence[Windowed],
    place: int,
    seed: T,
    meet: Callable[[Sequence[T], Size], T],
    whole: Callable[[Size], T],
    stop: int = INPUT,
) -> dict[int, T]:
    """For every node from `place` down to `stop`, what `seed` sees of its map.

    Args:
        seed: where it begins, on the map of `place`.
        meet: joins what comes to a map of a size from the nodes that read it.
        whole: all of a map of a size: what an op without a window needs.
    """
    seen: dict[int, list[T]] = {place: [seed]}
    found: dict[int, T] = {}
    for above in range(place, stop - 1, -1):
        if above not in seen:
            continue
        node, parts = nodes[above], seen.pop(above)
        size, window = map_size(node.shape), node.window
        blind = above != INPUT and window is None
        found[above] = whole(size) if blind else meet(parts, size)
        for below in node.inputs:
            size = map_size(nodes[below].shape)
            part = whole(size) if window is None else found[above].pull(window)
            seen.setdefault(below, []).append(part)
    return found


def plan(nodes: Sequence[Windowed], place: int) -> Plan:
    """For every node at or below `place`, the patch of its map that one position sees."""
    return pull(nodes, place, Patch(Span(1, 0, 1), Span(1, 0, 1)), _hull, whole_patch)


def _hull(parts: Sequence[Patch], size: Size) -> Patch:
    # Limited before the hull: a fixed span outside the map stands for all of it.
    first, *others = parts
    return reduce(lambda held, part: held.hull(part, size).limit(size), others, first.limit(size))


def reach(nodes: Sequence[Windowed], place: int) -> tuple[int, int]:
    """(receptive field, jump) of a node in pixels; the longer side where they differ.

    A layer that sees everything (after a fully connected one) has the whole image as its field and
    jump 0.
    """
    patch = plan(nodes, place).get(INPUT)
    if patch is None:
        return (0, 0)
    return max(patch.y.size, patch.x.size), max(patch.y.jump, patch.x.jump)


def node_boxes(nodes: Sequence[Windowed], place: int, seed: Boxes, stop: int = INPUT) -> NodeBoxes:
    """For every node from `place` down to `stop`, what n positions need of the node's map.

    Args:
        seed: the positions, as boxes of one cell.
    """
    return pull(nodes, place, seed, inside, partial(whole, len(seed.tops)), stop)
