"""Which inputs an output sees, in integers only.

Coordinates are (y, x), half-open, in pixels of the map they speak of; at the bottom that map is the
preprocessed image. A region may reach beyond the map: what lies there is padding.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = TypeVar("Ints", int, NDArray[np.int64])

INPUT = 0  # the place of the input among the nodes


@dataclass(frozen=True, order=True)
class Region:
    """The half-open rectangle [y0, y1) × [x0, x1)."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def height(self) -> int:
        """Rows, 0 for an empty region."""
        return max(0, self.y1 - self.y0)

    @property
    def width(self) -> int:
        """Columns, 0 for an empty region."""
        return max(0, self.x1 - self.x0)

    @property
    def empty(self) -> bool:
        """Whether nothing lies inside."""
        return self.height == 0 or self.width == 0

    def clip(self, height: int, width: int) -> "Region":
        """The part inside a map of the given size."""
        return Region(
            min(max(self.y0, 0), height),
            min(max(self.x0, 0), width),
            max(min(self.y1, height), 0),
            max(min(self.x1, width), 0),
        )

    def hull(self, other: "Region") -> "Region":
        """The smallest region that holds both; an empty one adds nothing."""
        if self.empty:
            return other
        if other.empty:
            return self
        return Region(
            min(self.y0, other.y0),
            min(self.x0, other.x0),
            max(self.y1, other.y1),
            max(self.x1, other.x1),
        )

    def shift(self, dy: int, dx: int) -> "Region":
        """The region moved by (dy, dx)."""
        return Region(self.y0 + dy, self.x0 + dx, self.y1 + dy, self.x1 + dx)

    def astuple(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1)."""
        return (self.y0, self.x0, self.y1, self.x1)


@dataclass(frozen=True)
class Window:
    """A sliding window: output o sees o·stride - padding + dilation·[0, kernel), per axis."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def extent(self) -> tuple[int, int]:
        """Inputs from the first to the last one seen by an output, per axis."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (dh * (kh - 1) + 1, dw * (kw - 1) + 1)

    def pull(self, out: Region) -> Region:
        """The inputs that a region of outputs sees."""
        if out.empty:
            return Region(0, 0, 0, 0)
        (sh, sw), (ph, pw), (eh, ew) = self.stride, self.padding, self.extent
        return Region(
            out.y0 * sh - ph,
            out.x0 * sw - pw,
            (out.y1 - 1) * sh - ph + eh,
            (out.x1 - 1) * sw - pw + ew,
        )

    def push(self, inputs: Region) -> Region:
        """The outputs that see any input of a region (a hull: dilation may leave gaps)."""
        if inputs.empty:
            return Region(0, 0, 0, 0)
        y0, y1 = self.push_axis(0, inputs.y0, inputs.y1)
        x0, x1 = self.push_axis(1, inputs.x0, inputs.x1)
        return Region(y0, x0, y1, x1)

    def push_axis(self, axis: int, start: Ints, end: Ints) -> tuple[Ints, Ints]:
        """`push` along one axis (0: y, 1: x), of integers or of arrays of them."""
        stride, padding, extent = self.stride[axis], self.padding[axis], self.extent[axis]
        return -((extent - 1 - start - padding) // stride), (end - 1 + padding) // stride + 1


@dataclass(frozen=True)
class Span:
    """One axis of a region that moves with a unit's position p: [p·jump + start, … + size)."""

    jump: int
    start: int
    size: int

    def at(self, position: int) -> int:
        """The first pixel for a unit at `position`."""
        return position * self.jump + self.start

    def pull(self, kernel: int, stride: int, padding: int, dilation: int) -> "Span":
        """What this span sees through a window, on one axis."""
        return Span(
            self.jump * stride,
            self.start * stride - padding,
            (self.size - 1) * stride + dilation * (kernel - 1) + 1,
        )

    def hull(self, other: "Span", length: int) -> "Span":
        """A span that holds both on a map of `length`: the whole map where they move apart."""
        if self.jump != other.jump:
            return whole(length)
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return Span(self.jump, start, end - start)

    def limit(self, length: int) -> "Span":
        """A fixed span clipped to a map of `length`; one that moves stays as it is."""
        if self.jump:
            return self
        start, end = max(self.start, 0), min(self.start + self.size, length)
        return Span(0, start, end - start) if end > start else whole(length)


def whole(length: int) -> Span:
    """The span of a whole map, wherever the unit is."""
    return Span(0, 0, length)


@dataclass(frozen=True)
class Patch:
    """A region that moves with a unit's position: one span per axis."""

    y: Span
    x: Span

    def at(self, y: int, x: int) -> Region:
        """The region for a unit at (y, x)."""
        y0, x0 = self.y.at(y), self.x.at(x)
        return Region(y0, x0, y0 + self.y.size, x0 + self.x.size)

    def pull(self, window: Window) -> "Patch":
        """What the patch sees through a window."""
        ys, xs = (
            span.pull(k, s, p, d)
            for span, k, s, p, d in zip(
                (self.y, self.x),
                window.kernel, window.stride, window.padding, window.dilation,
                strict=True,
            )
        )  # fmt: skip
        return Patch(ys, xs)

    def hull(self, other: "Patch", shape: tuple[int, int]) -> "Patch":
        """A patch that holds both, on a map of the given shape."""
        return Patch(self.y.hull(other.y, shape[0]), self.x.hull(other.x, shape[1]))

    def limit(self, shape: tuple[int, int]) -> "Patch":
        """The patch on a map of the given shape; see `Span.limit`."""
        return Patch(self.y.limit(shape[0]), self.x.limit(shape[1]))


def whole_patch(shape: tuple[int, int]) -> Patch:
    """The patch that is the whole map."""
    return Patch(whole(shape[0]), whole(shape[1]))


class Windowed(Protocol):
    """What geometry needs of a node: what it reads, its shape and its window.

    Attributes:
        inputs: places of the nodes it reads.
        shape: of one image's output, (c, h, w) or (features,).
        window: what an output sees of each input; None: everything.
    """

    @property
    def inputs(self) -> tuple[int, ...]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def window(self) -> Window | None: ...


def map_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of a node's output; a vector of features is a 1×1 map."""
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
