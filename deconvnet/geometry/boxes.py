"""Boxes: one part of a map for each of n activations, all of one size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deconvnet.geometry.region import Window


@dataclass(frozen=True)
class Boxes:
    """The first (y, x) of each activation's part of a map, and the parts' common size."""

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int

    def pull(self, window: Window) -> "Boxes":
        """What the boxes see through a window; that may reach beyond the map."""
        (sh, sw), (ph, pw), (eh, ew) = window.stride, window.padding, window.extent
        if (sh, sw, ph, pw, eh, ew) == (1, 1, 0, 0, 1, 1):
            return self
        return Boxes(
            tuple([top * sh - ph for top in self.tops]),
            tuple([left * sw - pw for left in self.lefts]),
            (self.height - 1) * sh + eh,
            (self.width - 1) * sw + ew,
        )

    @property
    def cells(self) -> int:
        """Positions of one activation's part."""
        return self.height * self.width

    def is_whole(self, shape: tuple[int, int]) -> bool:
        """Whether it is all of a map."""
        return (self.height, self.width) == shape


NodeBoxes = Mapping[int, Boxes]


def whole(n: int, shape: tuple[int, int]) -> Boxes:
    """The box that is all of a map, for n activations."""
    return Boxes((0,) * n, (0,) * n, *shape)


def _axis(parts: Sequence[tuple[tuple[int, ...], int]], length: int) -> tuple[tuple[int, ...], int]:
    """Intervals of one size inside [0, length) that hold what lies there of (firsts, size) each."""
    firsts, size = parts[0]
    if len(parts) == 1 and min(firsts) >= 0 and max(firsts) + size <= length:
        return firsts, size
    starts = [min(each) for each in zip(*(tops for tops, _ in parts), strict=True)]
    ends = [max(each) for each in zip(*([t + n for t in tops] for tops, n in parts), strict=True)]
    starts, ends = ([min(max(at, 0), length) for at in each] for each in (starts, ends))
    size = max(1, *(end - start for start, end in zip(starts, ends, strict=True)))
    return tuple([min(start, length - size) for start in starts]), size


def inside(parts: Sequence[Boxes], shape: tuple[int, int]) -> Boxes:
    """The smallest box inside a map that holds all that lies there of the given ones."""
    tops, height = _axis([(part.tops, part.height) for part in parts], shape[0])
    lefts, width = _axis([(part.lefts, part.width) for part in parts], shape[1])
    only = parts[0]
    if (tops, lefts, height, width) == (only.tops, only.lefts, only.height, only.width):
        return only
    return Boxes(tops, lefts, height, width)
