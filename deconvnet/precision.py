"""The precision of computations: that of the parameters, whatever goes on around."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def exact(function: Callable[P, T]) -> Callable[P, T]:
    """A function outside any autocast or inference mode of its caller.

    A projection asked for in the middle of a training step is the same as after it. The index,
    which offers autocast, turns it on by itself. Steps whose way down is autograd's need it.
    """

    @functools.wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> T:
        grad = torch.is_grad_enabled()  # leaving inference mode would turn it on
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(grad),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            return function(*args, **kwargs)

    return outside


def finite(x: Tensor) -> bool:
    """True if there is no NaN or infinity: they survive a sum, which is the cheaper test."""
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())
