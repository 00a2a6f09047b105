"""Rectifiers: where the three rules differ.

Going down, the reconstruction R meets a ReLU whose forward output was y:

    deconv    max(R, 0)                  ZF 2013, section 2.1
    gradient  R · [y > 0]                the derivative
    guided    max(R, 0) · [y > 0]        Springenberg et al. 2014, arXiv:1412.6806
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.ops.base import Op, Way, register


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

    def record(self, way: Way, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.forward(*xs)
        if way.rule == "deconv":
            return y, None
        gate = y > 0
        return y, gate if self.ceiling is None else gate & (xs[0] < self.ceiling)

    def descend(self, g: Tensor, kept: Tensor | None, way: Way) -> list[Tensor]:
        if way.rule != "gradient":
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
