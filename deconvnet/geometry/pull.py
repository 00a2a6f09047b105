"""Receptive fields: what one position of a layer sees, of the image and of every map between.

Theoretical ones, by pulling the position down through every window; where branches meet, the hull.
They agree with the paper's geometry: 7, 11, 27, 43, 75, 107, 139 and 171 pixels for ZFNet.
"""

from collections.abc import Mapping, Sequence

from deconvnet.geometry.boxes import Boxes, NodeBoxes, inside, whole
from deconvnet.geometry.region import INPUT, Patch, Span, Windowed, map_size, whole_patch

Plan = Mapping[int, Patch]


def plan(nodes: Sequence[Windowed], place: int) -> Plan:
    """For every node at or below `place`, the patch of its map that one position sees."""
    patches = {place: Patch(Span(1, 0, 1), Span(1, 0, 1))}
    for above in range(place, INPUT, -1):
        if above not in patches:
            continue
        window = nodes[above].window
        if window is None:  # it goes down from its whole map
            patches[above] = whole_patch(map_size(nodes[above].shape))
        for below in nodes[above].inputs:
            size = map_size(nodes[below].shape)
            seen = whole_patch(size) if window is None else patches[above].pull(window)
            if below in patches:
                seen = patches[below].hull(seen, size)
            patches[below] = seen.limit(size)
    return patches


def reach(nodes: Sequence[Windowed], place: int) -> tuple[int, int]:
    """(receptive field, jump) of a node in pixels; the longer side where they differ.

    A layer that sees everything (after a fully connected one) has the whole image as its field and
    jump 0.
    """
    patch = plan(nodes, place).get(INPUT)
    if patch is None:
        return (0, 0)
    return max(patch.y.size, patch.x.size), max(patch.y.jump, patch.x.jump)


def node_boxes(
    nodes: Sequence[Windowed], place: int, ys: Sequence[int], xs: Sequence[int]
) -> NodeBoxes:
    """For every node at or below `place`, what its positions (ys, xs) need of the node's map."""
    n = len(ys)
    seen = {place: [Boxes(tuple(ys), tuple(xs), 1, 1)]}
    found: dict[int, Boxes] = {}
    for above in range(place, INPUT - 1, -1):
        if above not in seen:
            continue
        window, shape = nodes[above].window, map_size(nodes[above].shape)
        everything = above != INPUT and window is None  # it goes down from its whole map
        found[above] = whole(n, shape) if everything else inside(seen[above], shape)
        for below in nodes[above].inputs:
            size = map_size(nodes[below].shape)
            part = whole(n, size) if window is None else found[above].pull(window)
            seen.setdefault(below, []).append(part)
    return found
