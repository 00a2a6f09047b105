"""Boxes for what shows in a square of the image, of one size for all positions of a layer.

A projection is looked at through a square around the middle of its field. A cell of a map below the
unit matters for it only if the unit sees the cell and the cell sees the square: both are intervals
along each axis, pulled down from the unit and pushed up from the square. Sizes are those of the
position that needs most, so that whatever is computed for a position has the same shape, alone or
with any others, and the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deconvnet.geometry.boxes import Boxes, NodeBoxes
from deconvnet.geometry.pull import plan
from deconvnet.geometry.push import Extents, push
from deconvnet.geometry.region import INPUT, Span, Windowed, map_size

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Line:
    """One axis of a map's boxes: the first cell for each position of the layer, and the size."""

    first: Ints
    size: int


@dataclass(frozen=True, eq=False)
class View:
    """The boxes of every position of a layer, on every map from the layer down to the image.

    Attributes:
        side: of the square, in pixels; at most the image's sides.
    """

    side: tuple[int, int]
    _ys: dict[int, _Line]
    _xs: dict[int, _Line]

    def boxes(self, ys: Sequence[int], xs: Sequence[int]) -> NodeBoxes:
        """For every node, the boxes of n positions; on the image those are the squares."""
        found = {}
        for place, line in self._ys.items():
            other = self._xs[place]
            tops, lefts = line.first[list(ys)], other.first[list(xs)]
            found[place] = Boxes(tuple(tops.tolist()), tuple(lefts.tolist()), line.size, other.size)
        return found


def view(nodes: Sequence[Windowed], place: int, side: int | None) -> View:
    """What shows in a square of `side` pixels around the middle of each position's field.

    Args:
        place: the layer's.
        side: None: the whole of every field.
    """
    fields = plan(nodes, place)
    ys = _lines(nodes, place, {i: patch.y for i, patch in fields.items()}, 0, side)
    xs = _lines(nodes, place, {i: patch.x for i, patch in fields.items()}, 1, side)
    return View((ys[INPUT].size, xs[INPUT].size), ys, xs)


def square(span: Span, positions: Ints, side: int, length: int) -> Ints:
    """Where squares of `side` around the middle of fields begin, moved to lie inside the image."""
    middle = positions * span.jump + span.start + (span.size - side) // 2
    return np.clip(middle, 0, length - side)


def _lines(
    nodes: Sequence[Windowed], place: int, fields: dict[int, Span], axis: int, side: int | None
) -> dict[int, _Line]:
    positions = np.arange(map_size(nodes[place].shape)[axis])
    lengths = {i: map_size(nodes[i].shape)[axis] for i in fields}
    seen = {i: _clipped(span, positions, lengths[i]) for i, span in fields.items()}
    order = sorted(i for i in fields if i != INPUT)
    if side is not None:
        wanted = min(side, lengths[INPUT])
        first = square(fields[INPUT], positions, wanted, lengths[INPUT])
        reached = push(nodes, order, axis, (first, first + wanted))
        seen = {i: _both(extents, reached[i]) for i, extents in seen.items()}
        seen[INPUT] = (first, first + wanted)
    seen[place] = (positions, positions + 1)
    return {
        i: _line((np.zeros_like(positions), np.full_like(positions, lengths[i])), lengths[i])
        if i != INPUT and nodes[i].window is None
        else _line(extents, lengths[i])
        for i, extents in seen.items()
    }


def _clipped(span: Span, positions: Ints, length: int) -> Extents:
    first = positions * span.jump + span.start
    return np.clip(first, 0, length), np.clip(first + span.size, 0, length)


def _both(one: Extents, other: Extents) -> Extents:
    start = np.maximum(one[0], other[0])
    return start, np.maximum(start, np.minimum(one[1], other[1]))


def _line(extents: Extents, length: int) -> _Line:
    start, end = extents
    size = max(1, int((end - start).max()))
    return _Line(np.minimum(start, length - size), size)
