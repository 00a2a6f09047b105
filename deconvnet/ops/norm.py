"""Normalisation: batch norm goes down by its scale, contrast normalisation is passed by (ZF).

Group and instance norms look at the whole map, so a unit above one sees the whole image.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvnet.errors import ProjectionError, UnknownOpError
from deconvnet.ops.base import BackwardRule, Call, Op, Rule, plain, register
from deconvnet.ops.channels import ChannelsLast
from deconvnet.ops.conv import Conv
from deconvnet.ops.derived import Derived, state

_FILTERS = 32  # folded at a time: kernels in float64 take twice their memory


class BatchNorm(Op):
    """Batch normalisation with its running statistics: y = x · scale + shift, per channel."""

    kind = "batch normalisation"

    def __init__(
        self, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> None:
        # Kept as they are, not as a scale: whoever trains the module on changes them in place.
        self._mean, self._variance = mean, variance
        self._weight, self._bias = weight, bias
        self._eps = eps

    @property
    def scale(self) -> Tensor:
        """What a channel is multiplied by, [c]."""
        scale = (self._variance + self._eps).rsqrt()
        return scale if self._weight is None else scale * self._weight.detach()

    def forward(self, *xs: Tensor) -> Tensor:
        return F.batch_norm(
            xs[0], self._mean, self._variance, plain(self._weight), plain(self._bias), eps=self._eps
        )

    def joined(self, below: Op) -> Callable[[Tensor], Tensor] | None:
        """After a convolution: that of (scale · W) x + (scale · b + shift)."""
        if not isinstance(below, Conv):
            return None
        kept = Derived[None, Conv]()

        def up(x: Tensor) -> Tensor:
            weights = (
                below.weight, below.bias, self._mean, self._variance, self._weight, self._bias,
            )  # fmt: skip
            return kept.of(None, state(weights), lambda: self._folded(below)).forward(x)

        return up

    def _folded(self, conv: Conv) -> Conv:
        # In float64, so that each weight is rounded once.
        scale = (self._variance.double() + self._eps).rsqrt()
        if self._weight is not None:
            scale *= self._weight.detach()
        shift = -self._mean.double() if conv.bias is None else conv.bias - self._mean.double()
        shift *= scale
        if self._bias is not None:
            shift += self._bias.detach()
        weight = conv.weight.clone()
        for first in range(0, len(weight), _FILTERS):
            part = slice(first, first + _FILTERS)
            weight[part] = weight[part].double() * scale[part].view(-1, 1, 1, 1)
        return Conv(weight, shift.to(weight), conv.window, conv.groups)

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        return [g * self.scale.view(-1, *(1,) * (g.dim() - 2))]


class LocalResponseNorm(Op):
    """y = x · (k + α/n · Σ x²)^-β over n neighbouring channels (Krizhevsky 2012, section 3.3)."""

    kind = "local response normalisation"

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def _window_sum(self, x: Tensor, before: int) -> Tensor:
        """Sum over channels [c - before, c - before + size)."""
        total = x.clone()
        for offset in range(-before, self.size - before):
            reach = abs(offset)
            if offset == 0 or reach >= x.shape[1]:
                continue
            if offset > 0:
                total[:, :-reach] += x[:, reach:]
            else:
                total[:, reach:] += x[:, :-reach]
        return total

    def _denominator(self, x: Tensor) -> Tensor:
        squares = self._window_sum(x * x, self.size // 2)
        return squares.mul_(self.alpha / self.size).add_(self.k)

    def _power(self, s: Tensor) -> Tensor:
        """s^-β; by two square roots for the customary β = 3/4."""
        if self.beta == 0.75:
            root = s.rsqrt()
            return root.mul_(root.sqrt())
        return s.pow(-self.beta)

    def forward(self, *xs: Tensor) -> Tensor:
        return xs[0] * self._power(self._denominator(xs[0]))

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.forward(*xs), xs[0] if backward.lrn == "gradient" else None

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        if kept is None:
            return [g]
        s = self._denominator(kept)
        p = self._power(s.clone())
        seen = self._window_sum(g * kept * p / s, self.size - 1 - self.size // 2)
        return [g * p - (2 * self.beta * self.alpha / self.size) * kept * seen]


class OwnNorm(Op):
    """Normalisation by statistics of the image itself: (x - mean) / deviation · w + b.

    Only its gradient goes down: what it gives need not be positive.

    Attributes:
        along: the dimension of each mean and deviation, once a map is laid out by `_together`.
    """

    rules: tuple[Rule, ...] = ("gradient",)
    along = 1

    def __init__(self, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
        self._weight, self._bias, self.eps = weight, bias, eps

    def _together(self, x: Tensor) -> Tensor:
        """A map [n, c, …], laid out for its statistics."""
        return x

    def record(self, backward: BackwardRule, *xs: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.forward(*xs), xs[0] if backward.rule == "gradient" else None

    def descend(self, g: Tensor, kept: Tensor | None, backward: BackwardRule) -> list[Tensor]:
        if kept is None:
            raise ProjectionError(f"A {self.kind} has no {backward.rule} rule.")
        if self._weight is not None:
            g = g * self._weight.detach().view(-1, *(1,) * (g.dim() - 2))
        x, down = self._together(kept), self._together(g)
        variance, mean = torch.var_mean(x, self.along, correction=0, keepdim=True)
        scale = (variance + self.eps).rsqrt()
        x = (x - mean) * scale
        level, slope = (part.mean(self.along, keepdim=True) for part in (down, down * x))
        return [(scale * (down - level - x * slope)).reshape(g.shape)]


class ChannelNorm(OwnNorm):
    """Layer normalisation over the channels of each place."""

    kind = "layer normalisation"

    def forward(self, *xs: Tensor) -> Tensor:
        x = xs[0].movedim(1, -1)
        weight, bias = plain(self._weight), plain(self._bias)
        return F.layer_norm(x, x.shape[-1:], weight, bias, self.eps).movedim(-1, 1)


@register(F.batch_norm)
def batch_norm(
    input: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Op, list[Any]]:
    """torch.nn.functional.batch_norm with running statistics."""
    if running_mean is None or running_var is None or training:
        raise UnknownOpError(
            "A batch norm without running statistics depends on the rest of the batch; "
            "use track_running_stats=True."
        )
    return BatchNorm(running_mean, running_var, weight, bias, eps), [input]


@register(nn.BatchNorm2d, nn.BatchNorm1d)
def batch_norm_module(module: nn.BatchNorm2d, x: Any) -> tuple[Op, list[Any]]:
    """nn.BatchNorm2d."""
    return batch_norm(
        x, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps
    )


@register(F.local_response_norm)
def local_response_norm(
    input: Any,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> tuple[Op, list[Any]]:
    """torch.nn.functional.local_response_norm: α is divided by the number of channels."""
    return LocalResponseNorm(size, alpha, beta, k), [input]


@register(nn.LocalResponseNorm)
def local_response_norm_module(module: nn.LocalResponseNorm, x: Any) -> tuple[Op, list[Any]]:
    """nn.LocalResponseNorm."""
    return local_response_norm(x, module.size, module.alpha, module.beta, module.k)


@register(F.layer_norm)
def layer_norm(
    input: Any,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call:
    """torch.nn.functional.layer_norm over the channels: of [n, c], or the last of [n, h, w, c]."""
    if tuple(normalized_shape) != tuple(input.shape[-1:]) or len(input.shape) not in (2, 4):
        raise UnknownOpError(
            f"A layer normalisation of {list(input.shape[1:])} over {list(normalized_shape)} is "
            "unknown; expected one over channels that are the last dimension."
        )
    norm = ChannelNorm(weight, bias, eps)
    return (norm if len(input.shape) == 2 else ChannelsLast(norm)), [input]


@register(nn.LayerNorm)
def layer_norm_module(module: nn.LayerNorm, x: Any) -> Call:
    """nn.LayerNorm."""
    return layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


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
