"""What every operation of the table knows: its window, its forward, what it keeps, its adjoint.

Going up an op sees whole maps, [n, c, h, w] or [n, features]. Going down it sees patches: `descend`
takes the part of the reconstruction that lies on a region of its output and returns the part on
the region of each input that the window pulls, padding included; whoever calls it crops. An op
without a window (`window is None`) sees everything, and gets and gives whole maps.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar, cast

import torch
from torch import Tensor

from deconvnet.errors import ParameterError
from deconvnet.geometry.region import Window

Function = Callable[..., Tensor]
Rule = Literal["deconv", "guided", "gradient"]
RULES: tuple[Rule, ...] = ("deconv", "guided", "gradient")
Norm = Literal["identity", "gradient"]

POINT = Window()


@dataclass(frozen=True)
class BackwardRule:
    """How to go down: the rectifier at each ReLU, and what contrast normalisation becomes.

    Attributes:
        rule: "deconv" rectifies the reconstruction (ZF, section 2.1), "gradient" gates it by the
            sign of the forward pass, "guided" does both.
        lrn: "identity" passes local response normalisation by (ZF); "gradient" applies its adjoint.
    """

    rule: Rule = "deconv"
    lrn: Norm = "identity"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ParameterError(f"rule is '{self.rule}', expected one of {', '.join(RULES)}.")
        if self.lrn not in ("identity", "gradient"):
            raise ParameterError(f"lrn is '{self.lrn}', expected identity or gradient.")


class Op(ABC):
    """One operation of the graph.

    Attributes:
        kind: the field's name for it, shown to users.
        window: what an output sees of each input; None: everything.
        pad_value: what lies beyond the border for this op's window.
        rules: those by which it goes down; none: nothing is projected through it.
        multiplies: True where an input is only a factor, as a gate is, or is expanded to be one.
        nonlinear: whether it is what a layer ends with: where no landmarks are named, one of these.
    """

    kind: str
    window: Window | None = POINT
    pad_value: float = 0.0
    rules: tuple[Rule, ...] = RULES
    nonlinear: ClassVar[bool] = False
    multiplies: ClassVar[bool] = False

    @abstractmethod
    def forward(self, *xs: Tensor) -> Tensor:
        """Whole maps up."""

    def forward_over(self, x: Tensor) -> Tensor:
        """`forward` of one input, which nothing needs any more: it may be overwritten."""
        return self.forward(x)

    def forward_patch(self, *xs: Tensor, constant: Tensor | None = None) -> Tensor:
        """Patches up: each input holds just what the window pulls, border padding included.

        Args:
            constant: the part of `self.constant` that lies on the patches.
        """
        del constant
        return self.forward(*xs)

    def joined(self, below: "Op") -> Callable[[Tensor], Tensor] | None:
        """Up through the op `below` and then this one in one step, where that takes less time.

        What this gives differs by rounding alone. None: there is no such step, or one of the two
        records something. Nothing else reads what `below` gives.
        """
        del below
        return None

    def channels_first(self) -> "Op | None":
        """The same on [n, c, h, w] for an op on [n, h, w, c]; None: there is none."""
        return None

    @property
    def constant(self) -> Tensor | None:
        """What varies over the output's map but not with the image, [1, 1, h, w]; None: nothing."""
        return None

    @property
    def multiply_adds(self) -> int:
        """Per position of the output, over all its channels; only products with weights count."""
        return 0

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        """`forward`, and what `descend` needs of it (on the output's map, batch 1 if constant)."""
        del backward
        return self.forward(*xs), None

    def record_patch(
        self, backward: BackwardRule, *xs: Tensor, constant: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`record` on patches; see `forward_patch`."""
        if self.window == POINT and constant is None:
            return self.record(backward, *xs)
        return self.forward_patch(*xs, constant=constant), constant

    @abstractmethod
    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        """Patches down: one for each input, each of the size that the window pulls."""


def plain(weight: Tensor | None) -> Tensor | None:
    """A weight without its gradient's graph; taken at each use, so that a new `.data` is seen."""
    return None if weight is None else weight.detach()


Call = tuple[Op, list[Any]]
Builder = Callable[..., Call | list[Call]]
B = TypeVar("B", bound=Builder)

_TABLE: dict[Any, Builder] = {}


def register(*keys: Any) -> Callable[[B], B]:
    """Enter a builder under module types, functions or names of methods.

    A function of a library that need not be there is entered as "library.module.function". A
    builder takes what the call site gives (for a module: the module and its inputs; else the call's
    own arguments) and returns the op with the values it reads, in order: those of the call site, or
    calls that must come before it. Of a call that gives several values it returns a list.
    """

    def enter(builder: B) -> B:
        for key in keys:
            if key in _TABLE:
                raise ValueError(f"{key} is in the op table already.")
            _TABLE[key] = builder
        return builder

    return enter


def builder_for(key: Any) -> Builder | None:
    """The builder of a module type, function or method name; None if the table has none."""
    if key not in _TABLE and hasattr(key, "__module__"):
        return _TABLE.get(f"{key.__module__}.{getattr(key, '__name__', '')}")
    return _TABLE.get(key)


def known() -> list[str]:
    """What the op table knows, as users write it."""
    return sorted({key if isinstance(key, str) else key.__name__ for key in _TABLE})


def pair(value: int | tuple[int, ...] | list[int]) -> tuple[int, int]:
    """torch's "int or pair" as a pair."""
    if isinstance(value, int):
        return (value, value)
    values = tuple(int(v) for v in value)
    return cast(tuple[int, int], values * 2 if len(values) == 1 else values)


class AdjointOp(Op):
    """f(x), linear but for a constant.

    Args:
        kind: the field's name for it.
        function: f.
        shape: of a batch of inputs; that of the images is left out.
        settings: f's parameters, by name.
    """

    kind = "linear step"
    window = None

    def __init__(self, kind: str, function: Function, shape: Any, **settings: Any) -> None:
        self.kind, self.function = kind, partial(function, **settings)
        self.source = tuple(shape[1:])
        self.settings = [repr(item) for item in settings.items()]

    def forward(self, *xs: Tensor) -> Tensor:
        y: Tensor = self.function(xs[0])
        return y

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        with torch.enable_grad():
            x = g.new_zeros(len(g), *self.source, requires_grad=True)
            y = self.forward(x)
        return list(torch.autograd.grad(y, x, g))


class WeightedAdjointOp(AdjointOp):
    """f(x, weight, bias).

    Args:
        multiply_adds: per position of the output.
    """

    kind = "linear step by a kernel"

    def __init__(
        self, kind: str, function: Function, shape: Any, weight: Tensor, bias: Tensor | None,
        multiply_adds: int, **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__(kind, function, shape, **settings)
        self._weight, self._bias, self._multiply_adds = weight, bias, multiply_adds

    def forward(self, *xs: Tensor) -> Tensor:
        return self.function(xs[0], self._weight.detach(), plain(self._bias))

    @property
    def multiply_adds(self) -> int:
        return self._multiply_adds
