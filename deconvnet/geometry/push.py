"""What changes in every map when rectangles of the image do.

A change is pushed up through every window. The two axes of a map are independent, so each is
planned by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deconvnet.geometry.region import INPUT, Window, Windowed, map_size

Ints = NDArray[np.int64]


Extents = tuple[Ints, Ints]  # (start, end) of n rectangles along an axis, half-open


@dataclass(frozen=True)
class Axis:
    """One axis of the changed parts of a map, for n images.

    Attributes:
        start, end: what may differ from the clean map, half-open, [n] each; inside the map.
        first, size: what is recomputed: `size` cells from `first` [n], inside the map, around it.
        length: of the map.
    """

    start: Ints
    end: Ints
    first: Ints
    size: int
    length: int

    @property
    def whole(self) -> bool:
        """Whether all of the map is recomputed."""
        return self.size == self.length

    def part(self, which: slice | Ints) -> "Axis":
        """The same for some of the images."""
        return Axis(self.start[which], self.end[which], self.first[which], self.size, self.length)


@dataclass(frozen=True)
class Change:
    """The changed parts of one node's map, both axes."""

    y: Axis
    x: Axis

    @property
    def whole(self) -> bool:
        """Whether all of the map is recomputed."""
        return self.y.whole and self.x.whole

    @property
    def cells(self) -> int:
        """Recomputed positions per image."""
        return self.y.size * self.x.size

    @property
    def boxes(self) -> tuple[Ints, Ints, int, int]:
        """(first y [n], first x [n], height, width) of what is recomputed."""
        return self.y.first, self.x.first, self.y.size, self.x.size

    def part(self, which: slice) -> "Change":
        """The same for some of the images."""
        return Change(self.y.part(which), self.x.part(which))

    def same_frame(self, other: "Change") -> bool:
        """Whether both recompute the same cells."""
        return (
            self.y.size == other.y.size
            and self.x.size == other.x.size
            and bool((self.y.first == other.y.first).all())
            and bool((self.x.first == other.x.first).all())
        )


def axis(extents: Extents, length: int) -> Axis:
    """Extents inside a map, in frames of one size that stay inside it."""
    start, end = extents
    size = max(1, int((end - start).max(initial=0)))
    return Axis(start, end, np.minimum(start, length - size), size, length)


def _clip(start: Ints, end: Ints, length: int) -> Extents:
    start = np.minimum(np.maximum(start, 0), length)
    return start, np.maximum(np.minimum(end, length), start)


def _hull(parts: Sequence[Extents]) -> Extents:
    start, end = parts[0]
    for other, until in parts[1:]:
        gone, nothing = start >= end, other >= until
        start, end = (
            np.where(gone, other, np.where(nothing, start, np.minimum(start, other))),
            np.where(gone, until, np.where(nothing, end, np.maximum(end, until))),
        )
    return start, end


def _push(window: Window | None, which: int, seen: Extents, length: int) -> Extents:
    """What changes along an axis of an output, of `length`, where an input has changed."""
    start, end = seen
    if window is None:
        return np.zeros_like(start), np.full_like(end, length)
    first, last = window.push_axis(which, start, end)
    empty = start >= end
    return np.where(empty, 0, first), np.where(empty, 0, last)


def push(
    nodes: Sequence[Windowed], order: Sequence[int], which: int, extents: Extents
) -> dict[int, Extents]:
    """Along one axis (0: y, 1: x), what changes in every map, clipped to it.

    Args:
        order: the nodes to recompute, in order of execution.
        extents: of the changed rectangles; they may overhang the image.
    """
    changed = {INPUT: _clip(*extents, map_size(nodes[INPUT].shape)[which])}
    for place in order:
        length = map_size(nodes[place].shape)[which]
        window = nodes[place].window
        parts = [_push(window, which, changed[i], length) for i in nodes[place].inputs]
        changed[place] = _clip(*_hull(parts), length)
    return changed
