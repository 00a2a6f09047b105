"""Convolution: up by its kernel, down by the transposed, flipped one, without its bias."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.geometry.region import Window
from deconvnet.ops.base import POINT, BackwardRule, Op, pair, plain, register
from deconvnet.ops.derived import Derived, state
from deconvnet.ops.pad import Sides, pad
from deconvnet.ops.switches import spread

_FEW = 36  # positions; up to here one matrix product is faster than a convolution


class Conv(Op):
    """2-D convolution with zero padding, any stride, dilation and groups."""

    kind = "convolution"

    def __init__(self, weight: Tensor, bias: Tensor | None, window: Window, groups: int) -> None:
        self._weight, self._bias, self.groups = weight, bias, groups
        self.window: Window = window
        self._derived = Derived[str, Tensor]()

    @property
    def weight(self) -> Tensor:
        """[outputs, inputs / groups, h, w], as it is now."""
        return self._weight.detach()

    @property
    def bias(self) -> Tensor | None:
        """[outputs], as it is now."""
        return plain(self._bias)

    def _apply(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        w = self.window
        return F.conv2d(x, self.weight, self.bias, w.stride, padding, w.dilation, self.groups)

    def forward(self, *xs: Tensor) -> Tensor:
        return self._apply(xs[0], self.window.padding)

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        (kh, kw), (sh, sw), (dh, dw) = self.window.kernel, self.window.stride, self.window.dilation
        x, (eh, ew) = xs[0], self.window.extent
        n, c, h, w = len(x), x.shape[1], (x.shape[2] - eh) // sh + 1, (x.shape[3] - ew) // sw + 1
        if self.groups > 1 or h * w > _FEW:
            return self._apply(x, (0, 0))
        x = x.contiguous(memory_format=torch.channels_last)
        each, _, row, column = x.stride()
        seen = x.as_strided(
            (n, h, w, kh, kw, c), (each, sh * row, sw * column, dh * row, dw * column, 1)
        )
        y = F.linear(seen.reshape(n * h * w, -1), self._matrix(), self.bias)
        return y.view(n, h, w, -1).permute(0, 3, 1, 2)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        w = self.window
        (kh, kw), (sh, sw) = w.kernel, w.stride
        if self.groups == 1 and g.shape[2] * g.shape[3] * kh * kw <= _FEW * 9:
            return [self._product(g)]
        if self.groups > 1 or w.dilation != (1, 1) or kh < sh or kw < sw:
            return [
                F.conv_transpose2d(g, self.weight, None, w.stride, 0, 0, self.groups, w.dilation)
            ]
        kernel = self._downward()
        rows, columns = kernel.shape[2:]
        phases = F.conv2d(g, kernel, padding=(rows - 1, columns - 1))
        if (sh, sw) != (1, 1):
            n, _, h, across = phases.shape
            phases = phases.view(n, -1, sh, sw, h, across).permute(0, 1, 4, 2, 5, 3)
            phases = phases.reshape(n, -1, h * sh, across * sw)
        return [phases[..., : (g.shape[2] - 1) * sh + kh, : (g.shape[3] - 1) * sw + kw]]

    def _product(self, g: Tensor) -> Tensor:
        """Down by one matrix product: what each position gives to its window, then the sum."""
        n, _, h, w = g.shape
        places = g.permute(0, 2, 3, 1).reshape(n * h * w, -1)
        matrix = self._matrix()
        if len(places) == 1 and len(only := places[0].nonzero()) == 1:
            channel = int(only)  # one activation alone: its kernel, no product
            given = matrix[channel : channel + 1] * places[0, channel]
            if self.window.dilation == (1, 1):
                return given.view(1, *self.window.kernel, -1).permute(0, 3, 1, 2)
        else:
            given = places @ matrix
        return spread(given.view(n, h, w, -1, self.weight.shape[1]), self.window)

    def _kept(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        return self._derived.of(name, state((self._weight,)), make)

    def _matrix(self) -> Tensor:
        return self._kept("matrix", self._as_matrix)

    def _downward(self) -> Tensor:
        return self._kept("downward", self._phases)

    def _as_matrix(self) -> Tensor:
        """The kernel as a matrix, [n, h·w·c]; no copy where its memory is channels-last."""
        return self.weight.permute(0, 2, 3, 1).reshape(len(self.weight), -1)

    def _phases(self) -> Tensor:
        """The transposed, flipped kernel, one for each phase of the stride: [c·sh·sw, n, h, w].

        A transposed convolution of stride s is an ordinary one of stride 1 whose s² groups of
        outputs interleave (sub-pixel convolution, Shi et al. 2016); ordinary ones run many times
        faster.
        """
        (kh, kw), (sh, sw) = self.window.kernel, self.window.stride
        n, c = self.weight.shape[:2]
        h, w = -(-kh // sh), -(-kw // sw)
        padded = F.pad(self.weight, (0, w * sw - kw, 0, h * sh - kh))
        phases = padded.reshape(n, c, h, sh, w, sw).permute(1, 3, 5, 0, 2, 4)
        kernel = phases.reshape(c * sh * sw, n, h, w).flip(2, 3)
        return kernel.contiguous(memory_format=torch.channels_last)

    @property
    def multiply_adds(self) -> int:
        return self.weight.numel()


class PerPlace(Conv):
    """A fully connected layer at each place of a map, as a convolution with a 1×1 kernel."""

    kind = "fully connected"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias, POINT, 1)

    @property
    def weight(self) -> Tensor:
        return self._weight.detach()[:, :, None, None]


def _padding(asked: Any, kernel: tuple[int, int], dilation: tuple[int, int]) -> Sides:
    """Cells at the left, the right, the top and the bottom, as torch.nn.functional.pad has them."""
    if asked == "same":
        height, width = (d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        return (width // 2, width - width // 2, height // 2, height - height // 2)
    height, width = (0, 0) if asked == "valid" else pair(asked)
    return (width, width, height, height)


@register(torch.conv2d)
def conv2d(
    input: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Op, list[Any]]:
    """torch.nn.functional.conv2d with a constant kernel."""
    if not isinstance(weight, Tensor):
        raise UnknownOpError("A convolution whose kernel is computed from the input is unknown.")
    kernel = (weight.shape[2], weight.shape[3])
    left, right, top, bottom = sides = _padding(padding, kernel, pair(dilation))
    even = (left, top) == (right, bottom)
    window = Window(kernel, pair(stride), (top, left) if even else (0, 0), pair(dilation))
    return Conv(weight, bias, window, groups), [input if even else pad(input, sides)]


@register(nn.Conv2d)
def conv_module(module: nn.Conv2d, x: Any) -> tuple[Op, list[Any]]:
    """nn.Conv2d."""
    padding = module.padding
    if module.padding_mode != "zeros":
        sides = _padding(padding, pair(module.kernel_size), pair(module.dilation))
        around, padding = pad(x, sides, module.padding_mode), (0, 0)
    op, inputs = conv2d(
        x, module.weight, module.bias, module.stride, padding, module.dilation, module.groups
    )
    return op, inputs if module.padding_mode == "zeros" else [around]
