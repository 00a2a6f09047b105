"""Cells put around a map, or left out of it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.geometry.region import Window
from deconvnet.ops.base import AdjointOp, BackwardRule, Call, Op, register
from deconvnet.ops.switches import inflate, unpool

Sides = tuple[int, int, int, int]
"""Left, right, top, bottom."""


class Pad(Op):
    """A constant around the map, on each side its own number of cells."""

    kind = "padding"

    def __init__(self, sides: Sides, value: float) -> None:
        left, _, top, _ = sides
        self.window = Window(padding=(top, left))
        self.pad_value = value
        self._sides = sides

    def forward(self, *xs: Tensor) -> Tensor:
        return F.pad(xs[0], self._sides, value=self.pad_value)

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        return xs[0]

    def record_patch(
        self, backward: BackwardRule, *xs: Tensor, constant: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        return xs[0], None  # never `record`: the patches hold the padding already

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g]


class PadChannels(Op):
    """Channels of a constant before and after a map's own."""

    kind = "padding of channels"

    def __init__(self, before: int, after: int, value: float) -> None:
        self.before, self.after, self.value = before, after, value

    def forward(self, *xs: Tensor) -> Tensor:
        return F.pad(xs[0], (0, 0, 0, 0, self.before, self.after), value=self.value)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g[:, self.before : g.shape[1] - self.after]]


class PadOwn(Op):
    """Values of the map itself around it: mirrored at the border, or the border's repeated.

    Each output is one of the inputs; which, is a switch that no image changes. The window is the
    hull of where those lie.

    Args:
        mode: "reflect" or "replicate", as torch has them.
        shape: (h, w) of the map.
    """

    kind = "padding with own values"

    def __init__(self, sides: Sides, mode: str, shape: tuple[int, int]) -> None:
        self.mode = mode
        left, right, top, bottom = sides
        self._rows = _sources(shape[0], top, bottom, mode)
        self._columns = _sources(shape[1], left, right, mode)
        from_row, from_column = (
            source - torch.arange(len(source)) for source in (self._rows, self._columns)
        )
        (ph, kh), (pw, kw) = (
            (-int(steps.min()), int(steps.max() - steps.min()) + 1)
            for steps in (from_row, from_column)
        )
        self.window: Window = Window((kh, kw), (1, 1), (ph, pw))
        places = (from_row + ph)[:, None] * kw + (from_column + pw)
        self._places = places[None, None]

    def forward(self, *xs: Tensor) -> Tensor:
        rows, columns = (source.to(xs[0].device) for source in (self._rows, self._columns))
        return xs[0].index_select(2, rows).index_select(3, columns)

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        assert constant is not None
        kw, width = self.window.kernel[1], xs[0].shape[3]
        place = constant.long()
        n, _, h, w = place.shape
        y = torch.arange(h, device=place.device)[:, None] + place // kw
        x = torch.arange(w, device=place.device) + place % kw
        cells = (y * width + x).view(n, 1, -1).expand(-1, xs[0].shape[1], -1)
        return xs[0].flatten(2).gather(2, cells).view(n, -1, h, w)

    @property
    def constant(self) -> Tensor | None:
        return self._places

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.forward(*xs), self._places.to(xs[0].device)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        assert kept is not None
        return [unpool(g, kept.expand(-1, g.shape[1], -1, -1), self.window)]


def _sources(length: int, before: int, after: int, mode: str) -> Tensor:
    """The input that each output is, along one axis."""
    cells = torch.arange(length, dtype=torch.float64)[None]
    return F.pad(cells, (before, after), mode=mode)[0].long()


class Crop(Op):
    """Some rows and columns of a map: from a first one to a last one, every one or every s-th."""

    kind = "crop"

    def __init__(self, rows: slice, columns: slice) -> None:
        self._rows, self._columns = rows, columns
        self.stride = (rows.step, columns.step)
        self.window: Window = Window((1, 1), self.stride, (-rows.start, -columns.start))

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0][:, :, self._rows, self._columns]

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        sy, sx = self.stride
        return xs[0][:, :, ::sy, ::sx]

    def record_patch(
        self, backward: BackwardRule, *xs: Tensor, constant: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        return self.forward_patch(*xs), None  # never `record`: the patches are cropped already

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        sy, sx = self.stride
        if self.stride == (1, 1):
            return [g]
        out = inflate(g, self.window)
        out[:, :, ::sy, ::sx] = g
        return [out]


def crop(x: Any, rows: slice, columns: slice) -> Call:
    """x[:, :, rows, columns]."""
    wanted = []
    for cells, length in zip((rows, columns), x.shape[2:], strict=True):
        first, last, step = cells.indices(length)
        if last <= first:
            raise UnknownOpError(f"An index {first}:{last} leaves nothing of {length} cells.")
        wanted.append(slice(first, last, step))
    return Crop(wanted[0], wanted[1]), [x]


@register(F.pad)
def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Call:
    """torch.nn.functional.pad of maps and their channels with a constant, or with own values."""
    sides = [int(n) for n in pad] + [0] * (8 - len(pad))
    if len(input.shape) != 4 or any(sides[6:]) or min(sides[4:]) < 0:
        raise UnknownOpError(
            f"A padding of {list(input.shape)} by {list(pad)} is unknown; expected one of maps "
            "[n, c, h, w], around them or of their channels."
        )
    if min(sides) < 0:
        return _cut(input, sides, mode, value)
    around: Sides = (sides[0], sides[1], sides[2], sides[3])
    shape = (input.shape[2], input.shape[3])
    if mode == "circular":
        return AdjointOp("circular padding", F.pad, input.shape, pad=tuple(pad), mode=mode), [input]
    if mode != "constant" and any(sides[4:]):
        raise UnknownOpError(f"A padding of channels in mode '{mode}' is unknown.")
    if mode != "constant":
        return PadOwn(around, mode, shape), [input]
    if not any(sides[4:]):
        return Pad(around, float(value or 0)), [input]
    inner: Any = (Pad(around, float(value or 0)), [input]) if any(around) else input
    return PadChannels(sides[4], sides[5], float(value or 0)), [inner]


def _cut(x: Any, sides: list[int], mode: str, value: float | None) -> Call:
    """A padding by less than nothing on some sides, which are cut off."""
    if max(sides) > 0:
        raise UnknownOpError(
            f"A padding by {sides[:4]}, both more and less than nothing, is unknown; crop first."
        )
    left, right, top, bottom = (-n for n in sides[:4])
    return crop(x, slice(top, x.shape[2] - bottom), slice(left, x.shape[3] - right))


@register(nn.ZeroPad2d, nn.ConstantPad2d)
def pad_module(module: nn.ConstantPad2d, x: Any) -> Call:
    """nn.ZeroPad2d and nn.ConstantPad2d."""
    return pad(x, module.padding, value=module.value)


@register(nn.ReflectionPad2d)
def reflection_module(module: nn.ReflectionPad2d, x: Any) -> Call:
    """nn.ReflectionPad2d."""
    return pad(x, module.padding, "reflect")


@register(nn.ReplicationPad2d)
def replication_module(module: nn.ReplicationPad2d, x: Any) -> Call:
    """nn.ReplicationPad2d."""
    return pad(x, module.padding, "replicate")


@register(nn.CircularPad2d)
def circular_module(module: nn.CircularPad2d, x: Any) -> Call:
    """nn.CircularPad2d."""
    return pad(x, module.padding, "circular")
