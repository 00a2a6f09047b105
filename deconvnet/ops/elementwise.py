"""Where branches meet: a sum goes down to every branch, a concatenation is split.

A product of two maps (a gate, an attention over channels) goes down by its derivative alone.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconvnet.errors import ProjectionError, UnknownOpError
from deconvnet.ops.activation import reciprocal
from deconvnet.ops.base import POINT, BackwardRule, Call, Op, Rule, register
from deconvnet.ops.channels import ChannelsLast
from deconvnet.ops.shape import Identity


def _varies(constant: Tensor | float | None) -> Tensor | None:
    """A constant that differs from place to place of a map, else None."""
    varies = isinstance(constant, Tensor) and constant.dim() > 2 and constant.shape[2:].numel() > 1
    return constant if varies and isinstance(constant, Tensor) else None


def _first(constant: Tensor) -> Tensor | None:
    """A constant of maps with channels last for channels first; None: it varies over the map."""
    one = constant[:, :1, :1]
    return one.permute(0, 3, 1, 2) if torch.equal(constant, one.expand_as(constant)) else None


class Sum(Op):
    """Σ sign · x over the inputs, plus times · offset, a constant."""

    kind = "sum"

    def __init__(self, signs: list[float], offset: Tensor | float | None, times: float = 1) -> None:
        self.signs, self.offset, self.times = signs, offset, times

    def forward(self, *xs: Tensor) -> Tensor:
        return self._add(xs, self.offset)

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        return self._add(xs, self.offset if constant is None else constant)

    def _add(self, xs: tuple[Tensor, ...], offset: Tensor | float | None) -> Tensor:
        total = xs[0] if self.signs[0] == 1 else xs[0] * self.signs[0]
        for x, sign in zip(xs[1:], self.signs[1:], strict=True):
            total = torch.add(total, x, alpha=sign)
        return total if offset is None else torch.add(total, offset, alpha=self.times)

    @property
    def constant(self) -> Tensor | None:
        return _varies(self.offset)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        # A tensor of its own for each branch: whoever receives one may add to it.
        first, *others = self.signs
        return [g if first == 1 else g * first, *(g * sign for sign in others)]

    def channels_first(self) -> Op | None:
        if not isinstance(self.offset, Tensor):
            return self
        offset = _first(self.offset)
        return None if offset is None else Sum(self.signs, offset, self.times)


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

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.forward(*xs), self.constant

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [self._apply(g, kept)]

    def channels_first(self) -> Op | None:
        if not isinstance(self.factor, Tensor):
            return self
        factor = _first(self.factor)
        return None if factor is None else Scale(factor, self.divides)


class Product(Op):
    """x · y, value by value."""

    kind = "product"
    multiplies = True
    rules: tuple[Rule, ...] = ("gradient",)

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0] * xs[1]

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.forward(*xs), torch.cat(xs, 1) if backward.rule == "gradient" else None

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        if kept is None:
            raise ProjectionError(f"A product of two maps has no {backward.rule} rule.")
        x, y = kept.chunk(2, 1)
        return [g * y, g * x]

    def channels_first(self) -> Op:
        return self


class Expand(Op):
    """One cell of a dimension along all of it, as in [n, c, 1, 1] → [n, c, h, w].

    Args:
        source: (c, h, w) before.
        target: (c, h, w) after.
    """

    kind = "expansion"
    multiplies = True

    def __init__(self, source: Sequence[int], target: Sequence[int]) -> None:
        self.source, self.target = tuple(source), tuple(target)
        self.window = POINT if self.source[1:] == self.target[1:] else None
        both = enumerate(zip(self.source, self.target, strict=True))
        self._grown = {dim + 1: wide for dim, (narrow, wide) in both if narrow != wide}

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].expand([self._grown.get(dim, -1) for dim in range(xs[0].dim())])

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g.sum(list(self._grown), keepdim=True)]

    def channels_first(self) -> Op:
        (*cells, channels), (*more, wide) = self.source, self.target
        return Expand((channels, *cells), (wide, *more))


class Larger(Op):
    """max(x, y), value by value; its switch is the share of x: 1, 0, or a half where they tie."""

    kind = "maximum"

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.maximum(*xs)

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        x, y = xs
        return self.forward(x, y), ((x > y).to(x) + (x >= y).to(x)) / 2

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        assert kept is not None
        return [g * kept, g * (1 - kept)]


class Concatenate(Op):
    """Channels of several maps, one after the other."""

    kind = "concatenation"

    def __init__(self, channels: list[int]) -> None:
        self.channels = channels

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, dim=1)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
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


def _meet(what: str, a: Any, b: Any) -> list[Any]:
    """Two maps of one shape: what has one cell along a dimension of the other is expanded."""
    both = _broadcast(a.shape, tuple(b.shape))
    if both is None or len(a.shape) != len(b.shape) or (a.shape != b.shape and len(both) != 4):
        raise UnknownOpError(
            f"A {what} of maps of shapes {list(a.shape[1:])} and {list(b.shape[1:])} is unknown; "
            "expected equal shapes, or maps [c, h, w] of which one is expanded."
        )
    return [_expanded(one, both[1:]) for one in (a, b)]


def _expanded(x: Any, shape: tuple[int, ...]) -> Any:
    """A map of this shape, of one that broadcasts to it."""
    own = tuple(x.shape[1:])
    return x if own == shape else (Expand(own, shape), [x])


def _is_map(value: Any) -> bool:
    return hasattr(value, "shape") and not isinstance(value, Tensor)


@register(operator.add, operator.iadd, torch.add, "add", "add_")
def add(a: Any, b: Any, *, alpha: float = 1) -> tuple[Op, list[Any]]:
    """a + alpha · b."""
    if _is_map(a) and _is_map(b):
        return Sum([1, alpha], None), _meet("sum", a, b)
    if _is_map(a):
        return Sum([1], _constant(b, a), alpha), [a]
    return Sum([alpha], _constant(a, b)), [b]


@register(operator.sub, operator.isub, torch.sub, "sub", "sub_")
def sub(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """a - b."""
    if _is_map(a):
        return add(a, b, alpha=-1)
    return Sum([-1], _constant(a, b)), [b]


@register(operator.mul, operator.imul, torch.mul, "mul", "mul_")
def mul(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """A map times a constant or another map."""
    if _is_map(a) and _is_map(b):
        return Product(), _meet("product", a, b)
    x, factor = (a, b) if _is_map(a) else (b, a)
    return Scale(_constant(factor, x)), [x]


@register(operator.truediv, operator.itruediv, torch.div, "div", "div_")
def div(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """A map over a constant or another map, or a constant over a map."""
    if not _is_map(b):
        return Scale(_constant(b, a), divides=True), [a]
    if not _is_map(a):
        return Scale(_constant(a, b)), [reciprocal(b)]
    over, under = _meet("quotient", a, b)
    return Product(), [over, reciprocal(under)]


@register(operator.neg, torch.neg, "neg")
def neg(a: Any) -> tuple[Op, list[Any]]:
    """-a."""
    return Scale(-1.0), [a]


@register(torch.addcmul, "addcmul")
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> tuple[Op, list[Any]]:
    """A map times two constants, plus one: input + value · tensor1 · tensor2."""
    if _is_map(input) or _is_map(tensor1) == _is_map(tensor2):
        raise UnknownOpError("An addcmul is unknown that has not one map, as a factor.")
    x, factor = (tensor1, tensor2) if _is_map(tensor1) else (tensor2, tensor1)
    scaled: Call = (Scale(_constant(factor, x)), [x if value == 1 else (Scale(value), [x])])
    return Sum([1], _constant(input, x)), [scaled]


@register(torch.maximum, "maximum")
def maximum(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """The larger of two maps."""
    if not (_is_map(a) and _is_map(b)):
        raise UnknownOpError("A maximum of a map and a constant is unknown; expected two maps.")
    return Larger(), _meet("maximum", a, b)


@register(torch.minimum, "minimum")
def minimum(a: Any, b: Any) -> tuple[Op, list[Any]]:
    """The smaller of two maps: minus the larger of their negatives."""
    op, both = maximum(a, b)
    return Scale(-1.0), [(op, [(Scale(-1.0), [one]) for one in both])]


@register(torch.cat, torch.concat, torch.concatenate)
def cat(tensors: Any, dim: int = 0, axis: int | None = None) -> tuple[Op, list[Any]]:
    """torch.cat along the channels, of maps that have them first or last."""
    dim = dim if axis is None else axis
    if not all(_is_map(x) for x in tensors):
        raise UnknownOpError("A concatenation with a constant is unknown; expected maps alone.")
    rank = len(tensors[0].shape)
    last = rank == 4 and dim in (3, -1)
    if not last and dim not in (1, 1 - rank):
        raise UnknownOpError(f"A concatenation along dimension {dim} is unknown; expected 1.")
    op = Concatenate([x.shape[dim] for x in tensors])
    return (ChannelsLast(op) if last else op), list(tensors)


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
    if len(own) != 3 or any(k not in (1, n) for n, k in zip(wanted, own, strict=True)):
        raise UnknownOpError(
            f"An expansion of {list(own)} to {list(wanted)} is unknown; expected that of one cell "
            "along a dimension of a map."
        )
    return Expand(own, wanted), [x]
