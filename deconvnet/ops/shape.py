"""Ops that move values without changing them, and means over the map."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import UnknownOpError
from deconvnet.ops.base import BackwardRule, Op, register


class Identity(Op):
    """The same value: nn.Identity, and dropout outside training."""

    kind = "identity"

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0]

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g]

    def channels_first(self) -> Op:
        return self


class Reshape(Op):
    """The values of each image in another shape; the batch dimension stays."""

    kind = "reshape"
    window = None

    def __init__(self, source: tuple[int, ...], target: tuple[int, ...]) -> None:
        self.source, self.target = source, target

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0].reshape(-1, *self.target)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g.reshape(-1, *self.source)]


def _reshape(x: Any, target: tuple[int, ...]) -> tuple[Op, list[Any]]:
    if target[0] not in (x.shape[0], -1):
        raise UnknownOpError(
            f"A reshape of {list(x.shape)} to {list(target)} mixes images of a batch; "
            "keep the first dimension."
        )
    sizes = list(target[1:])
    total = math.prod(x.shape[1:])
    if -1 in sizes:
        rest = -math.prod(sizes)
        sizes[sizes.index(-1)] = total // rest
    if math.prod(sizes) != total:
        raise UnknownOpError(
            f"A reshape of {list(x.shape)} to {list(target)} mixes images of a batch; "
            "keep the first dimension."
        )
    return Reshape(tuple(x.shape[1:]), tuple(sizes)), [x]


@register(torch.flatten, "flatten")
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> tuple[Op, list[Any]]:
    """torch.flatten from the channels on."""
    rank = len(input.shape)
    start, end = start_dim % rank, end_dim % rank
    if start == 0:
        raise UnknownOpError("A flatten from dimension 0 mixes images of a batch; start at 1.")
    shape = tuple(input.shape)
    return _reshape(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


@register(nn.Flatten)
def flatten_module(module: nn.Flatten, x: Any) -> tuple[Op, list[Any]]:
    """nn.Flatten."""
    return flatten(x, module.start_dim, module.end_dim)


@register("view", "reshape")
def view(x: Any, *shape: Any) -> tuple[Op, list[Any]]:
    """Tensor.view and Tensor.reshape."""
    target = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return _reshape(x, tuple(int(n) for n in target))


@register(torch.reshape)
def reshape(input: Any, shape: Any) -> tuple[Op, list[Any]]:
    """torch.reshape."""
    return view(input, *shape)


@register("squeeze", torch.squeeze)
def squeeze(input: Any, dim: Any = None) -> tuple[Op, list[Any]]:
    """torch.squeeze of dimensions other than the batch."""
    rank = len(input.shape)
    dims = (
        range(1, rank)
        if dim is None
        else [d % rank for d in ([dim] if isinstance(dim, int) else dim)]
    )
    kept = [n for d, n in enumerate(input.shape) if not (d in dims and n == 1)]
    return _reshape(input, tuple(kept))


@register(F.dropout, F.dropout2d, F.feature_alpha_dropout, F.alpha_dropout)
def dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False
) -> tuple[Op, list[Any]]:
    """Dropout outside training."""
    if training:
        raise UnknownOpError(
            "A dropout with training=True always drops; pass training=self.training."
        )
    return Identity(), [input]


@register("torchvision.ops.stochastic_depth.stochastic_depth")
def stochastic_depth(
    input: Any, p: float, mode: str, training: bool = True
) -> tuple[Op, list[Any]]:
    """torchvision.ops.stochastic_depth outside training."""
    return dropout(input, p, training)


@register(nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout)
def identity_module(module: nn.Module, x: Any) -> tuple[Op, list[Any]]:
    """nn.Identity and the dropouts."""
    return Identity(), [x]


@register("contiguous", "detach", "clone", torch.clone)
def identity(x: Any, *_: Any, **__: Any) -> tuple[Op, list[Any]]:
    """Calls that change storage, not values."""
    return Identity(), [x]


@register("to", "type_as", "float")
def cast(x: Any, *asked: Any, **named: Any) -> tuple[Op, list[Any]]:
    """Calls that change no value of a network in one precision, on one device."""
    wanted = [one for one in (*asked, *named.values()) if isinstance(one, torch.dtype)]
    if any(dtype not in (torch.float32, torch.float64) for dtype in wanted):
        raise UnknownOpError(f"A map in {wanted[0]} is unknown; expected float32 or float64.")
    return Identity(), [x]
