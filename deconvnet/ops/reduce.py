"""Steps over all channels of each place, or over all places: means, sums, maxima, norms, gates."""

import math
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.ops.activation import Arithmetic, Sigmoid, raised, reciprocal
from deconvnet.ops.base import BackwardRule, Call, Op, register
from deconvnet.ops.channels import ChannelsLast, Slice, permute
from deconvnet.ops.elementwise import Expand, Product, Scale, Sum, maximum
from deconvnet.ops.pool import AdaptiveAverage
from deconvnet.ops.shape import (
    Reshape,
)


class ChannelMean(Op):
    """The mean of all channels, [n, c, h, w] → [n, 1, h, w]."""

    kind = "mean of channels"

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].mean(1, keepdim=True)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [(g / self.channels).repeat(1, self.channels, 1, 1)]


class ChannelMaximum(Op):
    """The largest channel, [n, c, h, w] → [n, 1, h, w]; which one it was, is its switch."""

    kind = "maximum of channels"

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].amax(1, keepdim=True)

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return xs[0].max(1, keepdim=True)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        assert kept is not None
        n, _, h, w = g.shape
        zeros = g.new_zeros(n, self.channels, h, w)
        return [zeros.scatter_(1, kept.expand(n, -1, -1, -1), g)]


def _dims(x: Any, dim: Any) -> list[int]:
    rank = len(x.shape)
    return sorted(d % rank for d in ([dim] if isinstance(dim, int) else dim or []))


def _average(what: str, x: Any, dim: Any) -> tuple[Op, Op, int]:
    """The mean over all of the map or over the channels, what spreads it again, and of how many.

    Both keep their dimensions; the channels are first or last.
    """
    dims, shape = _dims(x, dim), tuple(x.shape[1:])
    if len(shape) != 3 or dims not in ([1], [2, 3], [3], [1, 2]):
        raise UnknownOpError(
            f"A {what} of {list(shape)} over dimensions {dims} is unknown; expected the whole map, "
            "dimensions 2 and 3, or the channels, dimension 1."
        )
    last = dims in ([3], [1, 2])
    channels, cells = (shape[2], shape[:2]) if last else (shape[0], shape[1:])
    op = ChannelMean(channels) if len(dims) == 1 else AdaptiveAverage((1, 1), (cells[0], cells[1]))
    count = channels if len(dims) == 1 else prod(cells)
    return ChannelsLast(op) if last else op, Expand(_kept(x, dims), shape), count


def _kept(x: Any, dims: list[int]) -> tuple[int, ...]:
    return tuple(1 if dim in dims else n for dim, n in enumerate(x.shape) if dim)


def _without(call: Call, x: Any, dim: Any, keepdim: bool) -> Call:
    """A call that keeps its dimensions, or that without those that it took the mean over."""
    dims = _dims(x, dim)
    if keepdim:
        return call
    left = tuple(n for place, n in enumerate(x.shape) if place and place not in dims)
    return Reshape(_kept(x, dims), left), [call]


@register("mean", torch.mean)
def mean(input: Any, dim: Any = None, keepdim: bool = False) -> Call:
    """The mean over all of the map, or over the channels."""
    rank, dims = len(input.shape), _dims(input, dim)
    if rank > 2 and dims == list(range(2, rank)) and not keepdim:
        return GlobalMean(tuple(input.shape[2:])), [input]
    if rank == 4 and dims == [1, 2] and not keepdim:  # of maps with channels last
        return GlobalMean(tuple(input.shape[1:3])), [permute(input, 0, 3, 1, 2)]
    average, _, _ = _average("mean", input, dim)
    return _without((average, [input]), input, dim, keepdim)


@register("sum", torch.sum)
def total(input: Any, dim: Any = None, keepdim: bool = False) -> Call:
    """The sum over all of the map, or over the channels."""
    return _without(_sum(input, input, dim), input, dim, keepdim)


def _sum(call: Any, x: Any, dim: Any) -> Call:
    """The sum of what a call gives, whose shape is that of x."""
    average, _, count = _average("sum", x, dim)
    return Scale(float(count)), [(average, [call])]


@register("var", torch.var)
def variance(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: float | None = None,
) -> Call:  # fmt: skip
    """The variance over all of the map, or over the channels."""
    average, spread, count = _average("variance", input, dim)
    correction = float(unbiased) if correction is None else correction
    away: Call = (Sum([1, -1], None), [input, (spread, [(average, [input])])])
    squares: Call = (average, [raised(away, 2)])
    if correction:
        squares = (Scale(count / (count - correction)), [squares])
    return _without(squares, input, dim, keepdim)


def _root(x: Tensor) -> Tensor:
    """√x for x ≥ 0, whose derivative at 0 is 0, as that of a norm is."""
    above = x > 0
    return torch.where(above, x, 1).sqrt() * above


@register("std", torch.std)
def deviation(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: float | None = None,
) -> Call:  # fmt: skip
    """The standard deviation over all of the map, or over the channels."""
    squares = variance(input, dim, unbiased, True, correction=correction)
    return _without(raised(squares, 0.5), input, dim, keepdim)


@register("norm", torch.norm)
def norm(input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Call:
    """The root of the sum of squares, over all of the map or over the channels."""
    if p not in (2, "fro"):
        raise UnknownOpError(f"A norm with p={p} is unknown; expected 2.")
    root: Call = (Arithmetic("root", _root), [_sum(raised(input, 2), input, dim)])
    return _without(root, input, dim, keepdim)


@register(torch.linalg.vector_norm)
def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False) -> Call:
    """torch.linalg.vector_norm."""
    return norm(x, ord, dim, keepdim)


@register(F.normalize)
def normalize(input: Any, p: Any = 2, dim: Any = 1, eps: float = 1e-12) -> Call:
    """torch.nn.functional.normalize."""
    _, spread, _ = _average("norm", input, dim)
    length: Call = (Arithmetic("clamp", torch.clamp, min=eps), [norm(input, p, dim, True)])
    return Product(), [input, (spread, [reciprocal(length)])]


def largest(input: Any, dim: Any, keepdim: bool) -> Call:
    """The maximum over the channels."""
    if len(input.shape) != 4 or _dims(input, dim) != [1]:
        raise UnknownOpError(
            f"A maximum of {list(input.shape[1:])} over dimensions {_dims(input, dim)} is unknown; "
            "expected that of the channels, dimension 1, or adaptive_max_pool2d."
        )
    return _without((ChannelMaximum(input.shape[1]), [input]), input, 1, keepdim)


@register("max", torch.max)
def maximum_of(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """torch.max of two maps, or of the channels: then the first of the two values that it gives."""
    if hasattr(dim, "shape") or other is not None:
        return maximum(input, dim if other is None else other)
    return [largest(input, dim, keepdim)]


@register("amax", torch.amax)
def amax(input: Any, dim: Any = (), keepdim: bool = False) -> Call:
    """torch.amax over the channels."""
    return largest(input, dim, keepdim)


@register(F.glu)
def glu(input: Any, dim: int = -1) -> Call:
    """torch.nn.functional.glu of the channels: one half, gated by the other."""
    channels = input.shape[1]
    if _dims(input, dim) != [1] or channels % 2:
        raise UnknownOpError(
            f"A GLU of {list(input.shape[1:])} along dimension {dim} is unknown; expected an even "
            "number of channels, dimension 1."
        )
    half = channels // 2
    given, gate = (Slice(channels, 0, half), [input]), (Slice(channels, half, channels), [input])
    return Product(), [given, (Sigmoid(), [gate])]


@register(nn.GLU)
def glu_module(module: nn.GLU, x: Any) -> Call:
    """nn.GLU."""
    return glu(x, module.dim)


class GlobalMean(Op):
    """The mean over the map, [n, c, …] → [n, c]."""

    kind = "global average pooling"
    window = None

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].flatten(2).mean(2)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        scaled = (g / math.prod(self.shape)).view(*g.shape, *(1,) * len(self.shape))
        return [scaled.expand(*g.shape, *self.shape).contiguous()]
