"""Where branches meet: a sum goes down to every branch, a concatenation is split."""

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.errors import UnknownOpError
from deconvnet.ops.base import Op, Way, register


def _varies(constant: Tensor | float | None) -> Tensor | None:
    """A constant that differs from place to place of a map, else None."""
    varies = isinstance(constant, Tensor) and constant.dim() > 2 and constant.shape[2:].numel() > 1
    return constant if varies and isinstance(constant, Tensor) else None


class Sum(Op):
    """Σ sign · x over the inputs, plus a constant."""

    kind = "sum"

    def __init__(self, signs: list[float], offset: Tensor | float | None) -> None:
        self.signs, self.offset = signs, offset

    def forward(self, *xs: Tensor) -> Tensor:
        return self._add(xs, self.offset)

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        return self._add(xs, self.offset if constant is None else constant)

    def _add(self, xs: tuple[Tensor, ...], offset: Tensor | float | None) -> Tensor:
        total = xs[0] if self.signs[0] == 1 else xs[0] * self.signs[0]
        for x, sign in zip(xs[1:], self.signs[1:], strict=True):
            total = torch.add(total, x, alpha=sign)
        return total if offset is None else total + offset

    @property
    def constant(self) -> Tensor | None:
        return _varies(self.offset)

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        # A tensor of its own for each branch: whoever receives one may add to it.
        first, *others = self.signs
        return [g if first == 1 else g * first, *(g * sign for sign in others)]


class Scale(Op):
    """x times (or over) a constant: a number, one per channel, or one per place of the map."""

    kind = "scale"

    def __init__(self, factor: Tensor | float, divides: bool = False) -> None:
        self.factor, self.divides = factor, divides

    def _apply(self, x: Tensor, constant: Tensor | None) -> Tensor:
        factor = self.factor if constant is None else constant
        return x / factor if self.divides else x * factor

    def forward(self, *xs: Tensor) -> Tensor:
        return self._apply(xs[0], None)

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        return self._apply(xs[0], constant)

    @property
    def constant(self) -> Tensor | None:
        return _varies(self.factor)

    def record(self, way: Way, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.forward(*xs), self.constant

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        return [self._apply(g, kept)]


class Concatenate(Op):
    """Channels of several maps, one after the other."""

    kind = "concatenation"

    def __init__(self, channels: list[int]) -> None:
        self.channels = channels

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, dim=1)

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        return list(torch.split_with_sizes(g, self.channels, dim=1))


def _constant(value: Any, like: Any) -> Any:
    """A number, or a tensor that is the same for every image: [1, c, 1, 1] or [1, c, h, w]."""
    if isinstance(value, int | float):
        return float(value)
    shape = (1, *like.shape[1:])
    if not isinstance(value, Tensor) or _broadcast(value.shape, shape) != shape:
        size = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UnknownOpError(
            f"An arithmetic operation of a map {list(shape[1:])} with {size} is unknown; expected "
            "a number, or a tensor that broadcasts to the map."
        )
    value = value.detach()
    value = value.reshape(*(1,) * (len(shape) - value.dim()), *value.shape)
    spread = value.shape[2:].numel() > 1
    return value.expand(-1, -1, *shape[2:]) if spread else value


def _broadcast(a: torch.Size, b: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(tuple(a), b)
    except ValueError:
        return None


def _same_shape(a: Any, b: Any) -> None:
    if tuple(a.shape) != tuple(b.shape):
        raise UnknownOpError(
            f"A sum of maps of shapes {list(a.shape[1:])} and {list(b.shape[1:])} broadcasts, "
            "which is unknown; expected equal shapes."
        )


def _is_map(value: Any) -> bool:
    return hasattr(value, "shape") and not isinstance(value, Tensor)


@register(operator.add, operator.iadd, torch.add, "add", "add_")
def add(a: Any, b: Any, *, alpha: float = 1) -> tuple[Op, list[Any]]:
    """a + alpha · b."""
    if _is_map(a) and _is_map(b):
        _same_shape(a, b)
        return Sum([1, alpha], None), [a, b]
    if _is_map(a):
        return Sum([1], _constant(b if alpha == 1 else b * alpha, a)), [a]
    return Sum([alpha], _constant(a, b)), [b]


@register(operator.sub, operator.isub, torch.sub, "sub", "sub_")
def sub(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """a - b."""
    if _is_map(a):
        return add(a, b, alpha=-1)
    return Sum([-1], _constant(a, b)), [b]


@register(operator.mul, operator.imul, torch.mul, "mul", "mul_")
def mul(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """A map times a constant."""
    if _is_map(a) and _is_map(b):
        raise UnknownOpError(
            "A product of two maps (a gate or an attention) has no deconvnet rule; "
            "trace the part of the module that comes before it."
        )
    x, factor = (a, b) if _is_map(a) else (b, a)
    return Scale(_constant(factor, x)), [x]


@register(operator.truediv, operator.itruediv, torch.div, "div", "div_")
def div(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """A map over a constant."""
    if not _is_map(a) or _is_map(b):
        raise UnknownOpError("A division by a map has no deconvnet rule.")
    return Scale(_constant(b, a), divides=True), [a]


@register(operator.neg, torch.neg, "neg")
def neg(a: Any) -> tuple[Op, list[Any]]:
    """-a."""
    return Scale(-1.0), [a]


@register(torch.cat, torch.concat, torch.concatenate)
def cat(tensors: Any, dim: int = 0, axis: int | None = None) -> tuple[Op, list[Any]]:
    """torch.cat along the channels."""
    dim = dim if axis is None else axis
    if not all(_is_map(x) for x in tensors):
        raise UnknownOpError("A concatenation with a constant is unknown; expected maps alone.")
    rank = len(tensors[0].shape)
    if dim not in (1, 1 - rank):
        raise UnknownOpError(f"A concatenation along dimension {dim} is unknown; expected 1.")
    return Concatenate([x.shape[1] for x in tensors]), list(tensors)
