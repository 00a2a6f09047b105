"""Steps across the channels of each place: their mean, their maximum, one for all, gated halves."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.ops.activation import Sigmoid
from deconvnet.ops.base import Call, Op, Way, register
from deconvnet.ops.merge import Expand, ExpandChannels, Product, maximum
from deconvnet.ops.order import Slice
from deconvnet.ops.pool import AdaptiveAverage
from deconvnet.ops.shape import GlobalMean, Identity, Reshape


class ChannelMean(Op):
    """The mean of all channels, [n, c, h, w] → [n, 1, h, w]."""

    kind = "mean of channels"

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].mean(1, keepdim=True)

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        return [(g / self.channels).repeat(1, self.channels, 1, 1)]


class ChannelMaximum(Op):
    """The largest channel, [n, c, h, w] → [n, 1, h, w]; which one it was, is its switch."""

    kind = "maximum of channels"

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].amax(1, keepdim=True)

    def record(self, way: Way, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return xs[0].max(1, keepdim=True)

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        assert kept is not None
        n, _, h, w = g.shape
        zeros = g.new_zeros(n, self.channels, h, w)
        return [zeros.scatter_(1, kept.expand(n, -1, -1, -1), g)]


def _dropped(call: Call, x: Any, keepdim: bool) -> Call:
    """A call that keeps the dimension of the channels, or that without it."""
    height, width = x.shape[2:]
    return call if keepdim else (Reshape((1, height, width), (height, width)), [call])


def _dims(x: Any, dim: Any) -> list[int]:
    rank = len(x.shape)
    return sorted(d % rank for d in ([dim] if isinstance(dim, int) else dim or []))


@register("mean", torch.mean)
def mean(input: Any, dim: Any = None, keepdim: bool = False) -> Call:
    """The mean over all of the map, or over the channels."""
    rank, dims = len(input.shape), _dims(input, dim)
    if rank == 4 and dims == [1]:
        return _dropped((ChannelMean(input.shape[1]), [input]), input, keepdim)
    if rank < 3 or dims != list(range(2, rank)) or (keepdim and rank != 4):
        raise UnknownOpError(
            f"A mean of {list(input.shape[1:])} over dimensions {dims} is unknown; expected the "
            "whole map, dimensions 2 and 3, or the channels, dimension 1."
        )
    shape = tuple(input.shape[2:])
    return (AdaptiveAverage((1, 1), shape) if keepdim else GlobalMean(shape)), [input]


def largest(input: Any, dim: Any, keepdim: bool) -> Call:
    """The maximum over the channels."""
    if len(input.shape) != 4 or _dims(input, dim) != [1]:
        raise UnknownOpError(
            f"A maximum of {list(input.shape[1:])} over dimensions {_dims(input, dim)} is unknown; "
            "expected that of the channels, dimension 1, or adaptive_max_pool2d."
        )
    return _dropped((ChannelMaximum(input.shape[1]), [input]), input, keepdim)


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


@register("expand_as")
def expand_as(x: Any, other: Any) -> Call:
    """Tensor.expand_as another map."""
    return expand(x, *other.shape)


@register("expand")
def expand(x: Any, *sizes: Any) -> Call:
    """Tensor.expand of one value per channel over a map, or of one channel over all."""
    target = sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    own, wanted = tuple(x.shape[1:]), tuple(target)[1:]
    wanted = tuple(n if n != -1 else k for n, k in zip(wanted, own, strict=True))
    if wanted == own:
        return Identity(), [x]
    if len(own) == 3 and own == (wanted[0], 1, 1):
        return Expand(wanted[1], wanted[2]), [x]
    if len(own) == 3 and own == (1, *wanted[1:]):
        return ExpandChannels(wanted[0]), [x]
    raise UnknownOpError(
        f"An expansion of {list(own)} to {list(wanted)} is unknown; expected one of [c, 1, 1] over "
        "a map, or of [1, h, w] over channels."
    )


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
