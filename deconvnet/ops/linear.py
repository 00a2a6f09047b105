"""Fully connected layers go down by the transpose; the heads above them do not go down."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import ProjectionError, UnknownOpError
from deconvnet.ops.base import BackwardRule, Op, plain, register
from deconvnet.ops.channels import ChannelsLast
from deconvnet.ops.conv import PerPlace


class Linear(Op):
    """y = x Wᵀ + b on [n, features]."""

    kind = "fully connected"
    window = None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    @property
    def weight(self) -> Tensor:
        """[outputs, inputs], as it is now."""
        return self._weight.detach()

    def forward(self, *xs: Tensor) -> Tensor:
        return F.linear(xs[0], self.weight, plain(self._bias))

    @property
    def multiply_adds(self) -> int:
        return self.weight.numel()

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g @ self.weight]


class Head(Op):
    """A monotone last step, such as softmax: it goes up, and nothing is projected through it."""

    kind = "head"
    window = None
    rules = ()

    def __init__(self, name: str, function: Any) -> None:
        self.name, self._function = name, function

    def forward(self, *xs: Tensor) -> Tensor:
        y: Tensor = self._function(xs[0])
        return y

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        raise ProjectionError(f"A {self.name} has no way down.")


@register(F.linear)
def linear(input: Any, weight: Tensor, bias: Tensor | None = None) -> tuple[Op, list[Any]]:
    """torch.nn.functional.linear on [n, features], or at each place of [n, h, w, features]."""
    if len(input.shape) == 4:
        return ChannelsLast(PerPlace(weight, bias)), [input]
    if len(input.shape) != 2:
        raise UnknownOpError(
            f"A fully connected layer on {list(input.shape[1:])} is unknown; flatten first."
        )
    return Linear(weight, bias), [input]


@register(nn.Linear)
def linear_module(module: nn.Linear, x: Any) -> tuple[Op, list[Any]]:
    """nn.Linear."""
    return linear(x, module.weight, module.bias)


def _over_classes(x: Any, dim: int | None) -> None:
    if dim not in (1, -1, None) or len(x.shape) != 2:
        raise UnknownOpError("A softmax that is not over the classes of [n, classes] is unknown.")


@register(F.softmax, torch.softmax, "softmax")
def softmax(input: Any, dim: int | None = None, *_: Any, **__: Any) -> tuple[Op, list[Any]]:
    """torch.softmax over the classes."""
    _over_classes(input, dim)
    return Head("softmax", lambda x: x.softmax(1)), [input]


@register(F.log_softmax, torch.log_softmax, "log_softmax")
def log_softmax(input: Any, dim: int | None = None, *_: Any, **__: Any) -> tuple[Op, list[Any]]:
    """torch.log_softmax over the classes."""
    _over_classes(input, dim)
    return Head("log-softmax", lambda x: x.log_softmax(1)), [input]


@register(nn.Softmax, nn.LogSoftmax)
def softmax_module(module: nn.Softmax | nn.LogSoftmax, x: Any) -> tuple[Op, list[Any]]:
    """nn.Softmax and nn.LogSoftmax."""
    return softmax(x, module.dim) if isinstance(module, nn.Softmax) else log_softmax(x, module.dim)
