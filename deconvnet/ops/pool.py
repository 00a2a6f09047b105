"""Pooling: maximum by switches, average by its adjoint.

A switch is the place of the maximum inside its pooling window, row by row, one byte each. Unpooling
puts each value back where its maximum was and **adds** where windows overlap: it is the adjoint.
(`nn.MaxUnpool2d` overwrites, and loses 19–36 % of the values on ZFNet's overlapping pools.)
"""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.geometry.region import Window
from deconvnet.ops.base import BackwardRule, Op, pair, register
from deconvnet.ops.switches import inflate, taps, to_switches, unpool


class MaxPool(Op):
    """2-D maximum, with ceil mode, padding and dilation."""

    kind = "max pooling"
    pad_value = float("-inf")

    def __init__(self, window: Window, ceil_mode: bool) -> None:
        self.window: Window = window
        self.ceil_mode = ceil_mode

    def forward(self, *xs: Tensor) -> Tensor:
        w = self.window
        return F.max_pool2d(xs[0], w.kernel, w.stride, w.padding, w.dilation, self.ceil_mode)

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        w = self.window
        return F.max_pool2d(xs[0], w.kernel, w.stride, 0, w.dilation)

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        w = self.window
        y, flat = F.max_pool2d(
            xs[0], w.kernel, w.stride, w.padding, w.dilation, self.ceil_mode, return_indices=True
        )
        return y, to_switches(flat, xs[0].shape[-1], w)

    def record_patch(
        self, backward: BackwardRule, *xs: Tensor, constant: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        w = self.window
        y, flat = F.max_pool2d(xs[0], w.kernel, w.stride, 0, w.dilation, return_indices=True)
        return y, to_switches(flat, xs[0].shape[-1], replace(w, padding=(0, 0)))

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        assert kept is not None
        return [unpool(g, kept, self.window)]


class AveragePool(Op):
    """2-D average, with ceil mode and either way of counting the padding."""

    kind = "average pooling"

    def __init__(
        self,
        window: Window,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor: int | None,
        shape: tuple[int, int],
    ) -> None:
        self.window: Window = window
        self._arguments = (ceil_mode, count_include_pad, divisor)
        # The divisor depends on the place at the borders: the average of ones under a window
        # that counts `k` cells divided by how many of them are really there.
        ones = torch.ones(1, 1, *shape, dtype=torch.float64)
        averaged = self._average(ones)
        present = self._count(ones, averaged.shape)
        self._share = averaged / present  # 1 / divisor, [1, 1, h, w]

    def _count(self, ones: Tensor, shape: torch.Size) -> Tensor:
        (ph, pw), (eh, ew), (sh, sw) = self.window.padding, self.window.extent, self.window.stride
        bottom = max(0, (shape[2] - 1) * sh + eh - ph - ones.shape[2])
        right = max(0, (shape[3] - 1) * sw + ew - pw - ones.shape[3])
        padded = F.pad(ones, (pw, right, ph, bottom))
        kernel = torch.ones(1, 1, *self.window.kernel, dtype=ones.dtype)
        return F.conv2d(padded, kernel, stride=self.window.stride)[..., : shape[2], : shape[3]]

    def _average(self, x: Tensor) -> Tensor:
        w = self.window
        return F.avg_pool2d(x, w.kernel, w.stride, w.padding, *self._arguments)

    def forward(self, *xs: Tensor) -> Tensor:
        return self._average(xs[0])

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        assert constant is not None
        w = self.window
        return F.avg_pool2d(xs[0], w.kernel, w.stride, divisor_override=1) * constant

    @property
    def constant(self) -> Tensor | None:
        return self._share

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.forward(*xs), self._share.to(xs[0])

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        assert kept is not None
        g = g * kept
        out = inflate(g, self.window)
        for tap in taps(out, self.window, g.shape[2], g.shape[3]):
            tap.add_(g)
        return [out]


class AdaptiveAverage(Op):
    """Average over bins that divide the whole map; to 1×1 it is global average pooling."""

    kind = "adaptive average pooling"
    window = None

    def __init__(self, output: tuple[int, int], shape: tuple[int, int]) -> None:
        self.output = output
        self._rows = _bins(shape[0], output[0])
        self._columns = _bins(shape[1], output[1])

    def forward(self, *xs: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(xs[0], self.output)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        rows, columns = self._rows.to(g), self._columns.to(g)
        return [torch.einsum("ah,ncab,bw->nchw", rows, g, columns)]


class AdaptiveMaximum(Op):
    """Maximum over bins that divide the whole map, and may overlap."""

    kind = "adaptive max pooling"
    window = None

    def __init__(self, output: tuple[int, int], shape: tuple[int, int]) -> None:
        self.output, self.shape = output, shape

    def forward(self, *xs: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(xs[0], self.output)

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        y, flat = F.adaptive_max_pool2d(xs[0], self.output, return_indices=True)
        return y, flat

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        assert kept is not None
        kept = kept.expand(len(g), -1, -1, -1)
        zeros = g.new_zeros(*g.shape[:2], self.shape[0] * self.shape[1])
        given = zeros.scatter_add_(2, kept.flatten(2), g.flatten(2))
        return [given.view(*g.shape[:2], *self.shape)]


def _bins(length: int, count: int) -> Tensor:
    """[count, length]: row i averages the inputs of bin i."""
    weights = torch.zeros(count, length, dtype=torch.float64)
    for i in range(count):
        start, end = i * length // count, -(-(i + 1) * length // count)
        weights[i, start:end] = 1.0 / (end - start)
    return weights


@register(F.max_pool2d, torch.max_pool2d)
def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Op, list[Any]]:
    """torch.nn.functional.max_pool2d."""
    if return_indices:
        raise UnknownOpError(
            "A max-pool that returns its indices is unknown: its outputs are not one map. "
            "Drop return_indices; switches are recorded anyway."
        )
    kernel = pair(kernel_size)
    window = Window(kernel, pair(stride) if stride else kernel, pair(padding), pair(dilation))
    for axis in (0, 1):
        _require_sight(window, axis, input.shape[axis - 2])
    return MaxPool(window, ceil_mode), [input]


def _require_sight(window: Window, axis: int, length: int) -> None:
    """Refuse a window before the border whose cells all miss a map that is narrower than its holes.

    Its maximum is -∞, and no place of the map is its switch.
    """
    kernel, stride = window.kernel[axis], window.stride[axis]
    padding, dilation = window.padding[axis], window.dilation[axis]
    for first in range(-padding, 0, stride):
        if not any(0 <= first + dilation * tap < length for tap in range(kernel)):
            raise UnknownOpError(
                f"A max-pool of dilation {window.dilation} and padding {window.padding} sees "
                f"nothing but padding on a map {length} cells across. Give a larger input_size."
            )


@register(nn.MaxPool2d)
def max_pool_module(module: nn.MaxPool2d, x: Any) -> tuple[Op, list[Any]]:
    """nn.MaxPool2d."""
    return max_pool2d(
        x, module.kernel_size, module.stride, module.padding, module.dilation,
        module.ceil_mode, module.return_indices,
    )  # fmt: skip


@register(F.avg_pool2d)
def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Op, list[Any]]:
    """torch.nn.functional.avg_pool2d."""
    kernel = pair(kernel_size)
    window = Window(kernel, pair(stride) if stride else kernel, pair(padding))
    shape = (input.shape[-2], input.shape[-1])
    return AveragePool(window, ceil_mode, count_include_pad, divisor_override, shape), [input]


@register(nn.AvgPool2d)
def avg_pool_module(module: nn.AvgPool2d, x: Any) -> tuple[Op, list[Any]]:
    """nn.AvgPool2d."""
    return avg_pool2d(
        x, module.kernel_size, module.stride, module.padding, module.ceil_mode,
        module.count_include_pad, module.divisor_override,
    )  # fmt: skip


def _adapted(output: Any, shape: tuple[int, int]) -> tuple[int, int]:
    """The asked size; along an axis of which None is asked, the map's own."""
    wanted = (output,) * 2 if isinstance(output, int | None) else tuple(output)
    return (wanted[0] or shape[0], wanted[1] or shape[1])


@register(F.adaptive_avg_pool2d)
def adaptive_avg_pool2d(input: Any, output_size: Any) -> tuple[Op, list[Any]]:
    """torch.nn.functional.adaptive_avg_pool2d."""
    shape = (input.shape[-2], input.shape[-1])
    return AdaptiveAverage(_adapted(output_size, shape), shape), [input]


@register(nn.AdaptiveAvgPool2d)
def adaptive_avg_pool_module(module: nn.AdaptiveAvgPool2d, x: Any) -> tuple[Op, list[Any]]:
    """nn.AdaptiveAvgPool2d."""
    return adaptive_avg_pool2d(x, module.output_size)


@register(F.adaptive_max_pool2d)
def adaptive_max_pool2d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
) -> tuple[Op, list[Any]]:
    """torch.nn.functional.adaptive_max_pool2d; with a window where its bins are equal."""
    shape = (input.shape[-2], input.shape[-1])
    output = _adapted(output_size, shape)
    if not return_indices and (shape[0] % output[0] or shape[1] % output[1]):
        return AdaptiveMaximum(output, shape), [input]
    kernel = (shape[0] // output[0], shape[1] // output[1])
    return max_pool2d(input, kernel, return_indices=return_indices)


@register(nn.AdaptiveMaxPool2d)
def adaptive_max_pool_module(module: nn.AdaptiveMaxPool2d, x: Any) -> tuple[Op, list[Any]]:
    """nn.AdaptiveMaxPool2d."""
    return adaptive_max_pool2d(x, module.output_size, module.return_indices)
