"""Nonlinearities. ReLUs go down by all three rules, the others by their derivative alone.

Going down, the reconstruction R meets a ReLU whose forward output was y:

    deconv    max(R, 0)                  ZF 2013, section 2.1
    gradient  R · [y > 0]                the derivative
    guided    max(R, 0) · [y > 0]        Springenberg et al. 2014, arXiv:1412.6806

The deconvnet's rule keeps a reconstruction as positive as the maps are. Maps of the other
nonlinearities need not be positive, so neither that rule nor the guided one applies to them.
"""

import operator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.ops.base import BackwardRule, Builder, Call, Function, Op, Rule, register

_IN_PLACE = (
    F.silu, F.mish, F.hardswish, F.hardsigmoid, F.selu, F.elu, F.celu, F.leaky_relu,
)  # fmt: skip


class Activation(Op):
    """f(x), value by value.

    Args:
        kind: the field's name for it.
        function: f.
        settings: its parameters, by name; a tensor has one value per channel.
    """

    kind = "activation"
    rules: tuple[Rule, ...] = ("gradient",)
    nonlinear = True

    def __init__(self, kind: str, function: Function, **settings: Any) -> None:
        self.kind, self.function = kind, partial(function, **settings)
        self.settings = [repr(item) for item in settings.items()]
        self._over = {"inplace": True} if function in _IN_PLACE else {}

    def forward(self, *xs: Tensor) -> Tensor:
        y: Tensor = self.function(xs[0])
        return y

    def forward_over(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, **self._over)
        return y

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        if backward.rule != "gradient":
            return self.forward(*xs), None
        with torch.enable_grad():
            x = xs[0].detach().clone().requires_grad_()
            y = self.forward(x)
        return y.detach(), torch.autograd.grad(y, x, torch.ones_like(y))[0]

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g if kept is None else g * kept]

    def channels_first(self) -> Op | None:
        return self


class Arithmetic(Activation):
    """A step of a computation, such as a norm's: no layer ends with it."""

    nonlinear = False


class PReLU(Op):
    """max(x, 0) + a · min(x, 0), with a learnt: a number, or one per channel."""

    kind = "PReLU"
    rules: tuple[Rule, ...] = ("gradient",)
    nonlinear = True

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def forward(self, *xs: Tensor) -> Tensor:
        return F.prelu(xs[0], self._weight.detach())

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.forward(*xs)
        return y, None if backward.rule != "gradient" else xs[0] > 0

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        if kept is None:
            return [g]
        weight = self._weight.detach().view(-1, *(1,) * (g.dim() - 2))
        return [torch.where(kept, g, g * weight)]


class Sigmoid(Activation):
    """1 / (1 + exp(-x)); at a network's end, it gives probabilities."""

    def __init__(self) -> None:
        super().__init__("sigmoid", torch.sigmoid)


KINDS: dict[str, tuple[Function, tuple[str, ...]]] = {
    "SiLU": (F.silu, ()),
    "Mish": (F.mish, ()),
    "Hardswish": (F.hardswish, ()),
    "Hardsigmoid": (F.hardsigmoid, ()),
    "LogSigmoid": (F.logsigmoid, ()),
    "Softsign": (F.softsign, ()),
    "Tanhshrink": (F.tanhshrink, ()),
    "SELU": (F.selu, ()),
    "GELU": (F.gelu, ("approximate",)),
    "ELU": (F.elu, ("alpha",)),
    "CELU": (F.celu, ("alpha",)),
    "LeakyReLU": (F.leaky_relu, ("negative_slope",)),
    "Softplus": (F.softplus, ("beta", "threshold")),
    "Hardshrink": (F.hardshrink, ("lambd",)),
    "Softshrink": (F.softshrink, ("lambd",)),
}
"""By torch's name for the module: the function, and the settings that both take."""


def _call(kind: str, function: Function, names: tuple[str, ...]) -> Builder:
    def build(input: Any, *args: Any, **kwargs: Any) -> Call:
        given = dict(zip((*names, "inplace"), args, strict=False)) | kwargs
        given.pop("inplace", None)
        return Activation(kind, function, **given), [input]

    return build


def _module(kind: str, function: Function, names: tuple[str, ...]) -> Builder:
    def build(module: nn.Module, x: Any) -> Call:
        return Activation(kind, function, **{name: getattr(module, name) for name in names}), [x]

    return build


for _kind, (_function, _names) in KINDS.items():
    _written = getattr(F, f"{_function.__name__}_", None)  # the same, in place
    for _spelling in (_function, _written) if _written else (_function,):
        register(_spelling)(_call(_kind, _function, _names))
    register(getattr(nn, _kind))(_module(_kind, _function, _names))


@register(torch.tanh, F.tanh, "tanh")
def tanh(input: Any) -> Call:
    """torch.tanh."""
    return Activation("tanh", torch.tanh), [input]


@register(nn.Tanh)
def tanh_module(module: nn.Tanh, x: Any) -> Call:
    """nn.Tanh."""
    return tanh(x)


@register(F.sigmoid, torch.sigmoid, "sigmoid")
def sigmoid(input: Any) -> Call:
    """torch.sigmoid."""
    return Sigmoid(), [input]


@register(nn.Sigmoid)
def sigmoid_module(module: nn.Sigmoid, x: Any) -> Call:
    """nn.Sigmoid."""
    return Sigmoid(), [x]


@register(F.hardtanh)
def hardtanh(
    input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Call:
    """torch.nn.functional.hardtanh; from 0 on, it is a ReLU."""
    if min_val == 0:
        return ReLU(max_val), [input]
    return Activation("Hardtanh", F.hardtanh, min_val=min_val, max_val=max_val), [input]


@register(nn.Hardtanh)
def hardtanh_module(module: nn.Hardtanh, x: Any) -> Call:
    """nn.Hardtanh."""
    return hardtanh(x, module.min_val, module.max_val)


@register(torch.clamp, "clamp", "clamp_")
def clamp(input: Any, min: Any = None, max: Any = None) -> Call:
    """torch.clamp between numbers; from 0 on, it is a ReLU."""
    if not all(isinstance(bound, int | float | None) for bound in (min, max)):
        raise UnknownOpError("A clamp by a map or a tensor is unknown; expected numbers.")
    if min == 0 and (max is None or max > 0):
        return ReLU(max), [input]
    return Arithmetic("clamp", torch.clamp, min=min, max=max), [input]


@register(torch.clamp_min, "clamp_min", "clamp_min_")
def clamp_min(input: Any, min: Any) -> Call:
    """torch.clamp_min."""
    return clamp(input, min)


@register(torch.clamp_max, "clamp_max", "clamp_max_")
def clamp_max(input: Any, max: Any) -> Call:
    """torch.clamp_max."""
    return clamp(input, None, max)


@register(torch.abs, "abs")
def absolute(input: Any) -> Call:
    """torch.abs."""
    return Arithmetic("absolute value", torch.abs), [input]


@register(operator.pow, operator.ipow, torch.pow, "pow")
def power(input: Any, exponent: Any) -> Call:
    """A map to the power of a number."""
    if not hasattr(input, "shape") or not isinstance(exponent, int | float):
        raise UnknownOpError("A power is unknown whose base or exponent is not a map and a number.")
    return raised(input, exponent)


def raised(x: Any, exponent: float) -> Call:
    """A map, or what a call gives, to the power of a number."""
    return Arithmetic("power", torch.pow, exponent=exponent), [x]


@register(torch.square, "square")
def square(input: Any) -> Call:
    """torch.square."""
    return power(input, 2)


@register(torch.sqrt, "sqrt")
def square_root(input: Any) -> Call:
    """torch.sqrt."""
    return power(input, 0.5)


@register(torch.rsqrt, "rsqrt")
def reciprocal_root(input: Any) -> Call:
    """torch.rsqrt."""
    return Arithmetic("reciprocal of the root", torch.rsqrt), [input]


@register(torch.reciprocal, "reciprocal")
def reciprocal(input: Any) -> Call:
    """torch.reciprocal."""
    return Arithmetic("reciprocal", torch.reciprocal), [input]


@register(torch.log, "log")
def logarithm(input: Any) -> Call:
    """torch.log."""
    return Arithmetic("logarithm", torch.log), [input]


@register(torch.exp, "exp")
def exponential(input: Any) -> Call:
    """torch.exp."""
    return Arithmetic("exponential", torch.exp), [input]


@register(torch.prelu)
def prelu(input: Any, weight: Tensor) -> Call:
    """torch.nn.functional.prelu."""
    return PReLU(weight), [input]


@register(nn.PReLU)
def prelu_module(module: nn.PReLU, x: Any) -> Call:
    """nn.PReLU."""
    return prelu(x, module.weight)


class ReLU(Op):
    """max(x, 0), or its clipped form min(max(x, 0), ceiling)."""

    kind = "ReLU"
    nonlinear = True

    def __init__(self, ceiling: float | None = None) -> None:
        self.ceiling = ceiling

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].clamp(0, self.ceiling)

    def forward_over(self, x: Tensor) -> Tensor:
        return x.clamp_(0, self.ceiling)

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.forward(*xs)
        if backward.rule == "deconv":
            return y, None
        gate = y > 0
        return y, gate if self.ceiling is None else gate & (xs[0] < self.ceiling)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        if backward.rule != "gradient":
            g = g.clamp_min(0)
        return [g if kept is None else g * kept]

    def channels_first(self) -> Op | None:
        return self


@register(F.relu, torch.relu, torch.relu_, "relu", "relu_")
def relu(input: Any, inplace: bool = False) -> tuple[Op, list[Any]]:
    """torch.nn.functional.relu and its spellings."""
    return ReLU(), [input]


@register(nn.ReLU)
def relu_module(module: nn.ReLU, x: Any) -> tuple[Op, list[Any]]:
    """nn.ReLU."""
    return ReLU(), [x]


@register(F.relu6)
def relu6(input: Any, inplace: bool = False) -> tuple[Op, list[Any]]:
    """torch.nn.functional.relu6."""
    return ReLU(6.0), [input]


@register(nn.ReLU6)
def relu6_module(module: nn.ReLU6, x: Any) -> tuple[Op, list[Any]]:
    """nn.ReLU6."""
    return ReLU(6.0), [x]
