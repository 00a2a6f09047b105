"""Normalisation by the whole map: over groups of channels, or over each channel alone."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.ops.base import Call, plain, register
from deconvnet.ops.norm import OwnNorm, batch_norm


class GroupNorm(OwnNorm):
    """Normalisation over a group's channels and all places."""

    kind = "group normalisation"
    window = None
    along = 2

    def __init__(self, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
        super().__init__(weight, bias, eps)
        self.groups = groups

    def forward(self, *xs: Tensor) -> Tensor:
        return F.group_norm(xs[0], self.groups, plain(self._weight), plain(self._bias), self.eps)

    def _together(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), self.groups, -1)


@register(F.group_norm)
def group_norm(
    input: Any,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call:
    """torch.nn.functional.group_norm."""
    return GroupNorm(num_groups, weight, bias, eps), [input]


@register(nn.GroupNorm)
def group_norm_module(module: nn.GroupNorm, x: Any) -> Call:
    """nn.GroupNorm."""
    return group_norm(x, module.num_groups, module.weight, module.bias, module.eps)


@register(F.instance_norm)
def instance_norm(
    input: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call:
    """torch.nn.functional.instance_norm: each channel a group, or as batch norm when it counts."""
    if use_input_stats:
        return GroupNorm(input.shape[1], weight, bias, eps), [input]
    return batch_norm(input, running_mean, running_var, weight, bias, eps=eps)


@register(nn.InstanceNorm2d)
def instance_norm_module(module: nn.InstanceNorm2d, x: Any) -> Call:
    """nn.InstanceNorm2d."""
    return instance_norm(
        x, module.running_mean, module.running_var, module.weight, module.bias,
        not module.track_running_stats, eps=module.eps,
    )  # fmt: skip
