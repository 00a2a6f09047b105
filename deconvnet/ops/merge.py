"""Where branches meet: a sum goes down to every branch, a concatenation is split."""

import operator
from typing import Any

import torch
from torch import Tensor

from deconvnet.errors import UnknownOpError
from deconvnet.ops.base import Op, Way, register


class Sum(Op):
    """Σ sign · x over the inputs, plus a constant."""

    kind = "sum"

    def __init__(self, signs: list[float], constant: Tensor | float | None) -> None:
        self.signs, self.offset = signs, constant

    def forward(self, *xs: Tensor) -> Tensor:
        total = xs[0] if self.signs[0] == 1 else xs[0] * self.signs[0]
        for x, sign in zip(xs[1:], self.signs[1:], strict=True):
            total = torch.add(total, x, alpha=sign)
        return total if self.offset is None else total + self.offset

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        return [g if sign == 1 else g * sign for sign in self.signs]


class Scale(Op):
    """x times a constant: a number, or one per channel."""

    kind = "scale"

    def __init__(self, factor: Tensor | float) -> None:
        self.factor = factor

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0] * self.factor

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        return [g * self.factor]


class Concatenate(Op):
    """Channels of several maps, one after the other."""

    kind = "concatenation"

    def __init__(self, channels: list[int]) -> None:
        self.channels = channels

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, dim=1)

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        return list(g.split(self.channels, dim=1))


def _constant(value: Any, like: Any) -> Any:
    """A number, or a tensor that is the same at every position of every image."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Tensor):
        value = value.detach()
        spatial = len(like.shape) > 2 and any(n > 1 for n in value.shape[-(len(like.shape) - 2) :])  # noqa: PLR2004 - n, c, then space
        if not spatial or value.numel() == 1:
            return value
    raise UnknownOpError(
        f"An arithmetic operation with a {type(value).__name__} that varies over the map is "
        "unknown; expected a number or one value per channel."
    )


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
        return Sum([1], _constant(b, a) * alpha), [a]
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
            "project from a layer before it."
        )
    x, factor = (a, b) if _is_map(a) else (b, a)
    return Scale(_constant(factor, x)), [x]


@register(operator.truediv, operator.itruediv, torch.div, "div", "div_")
def div(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """A map over a constant."""
    if not _is_map(a) or _is_map(b):
        raise UnknownOpError("A division by a map has no deconvnet rule.")
    return Scale(1.0 / _constant(b, a)), [a]


@register(operator.neg, torch.neg, "neg")
def neg(a: Any) -> tuple[Op, list[Any]]:
    """-a."""
    return Scale(-1.0), [a]


@register(torch.cat, torch.concat)
def cat(tensors: Any, dim: int = 0, axis: int | None = None) -> tuple[Op, list[Any]]:
    """torch.cat along the channels."""
    dim = dim if axis is None else axis
    rank = len(tensors[0].shape)
    if dim not in (1, 1 - rank):
        raise UnknownOpError(f"A concatenation along dimension {dim} is unknown; expected 1.")
    return Concatenate([x.shape[1] for x in tensors]), list(tensors)
