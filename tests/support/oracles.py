"""Slow, independent judges of the engine: autograd through the untouched module.

A projection is judged as the paper words it (Zeiler & Fergus 2013, section 2.1): one activation of
height h at one position, everything else of its layer zero, backpropagated to the input with the
backward of every ReLU replaced by the rule's rectifier and contrast normalisation left out. Nothing
here reads the engine: the module runs as torch runs it, under a mode that stands in for each
spelling of a ReLU, in-place ones included, and for local response normalisation.
"""

from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

RULES = ("deconv", "guided", "gradient")

_RELU = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_RELU6 = {F.relu6, F.hardtanh}  # nn.ReLU6 is torch's hardtanh from 0 to 6
_NAMED = {
    "cat": {torch.cat, torch.concat, torch.concatenate},
    "sum": {
        torch.add, torch.sub, Tensor.add, Tensor.add_, Tensor.sub, Tensor.sub_, Tensor.__add__,
        Tensor.__radd__, Tensor.__iadd__, Tensor.__sub__, Tensor.__rsub__, Tensor.__isub__,
    },
    "conv": {torch.conv2d, F.conv2d},
    "max": {torch.max_pool2d, F.max_pool2d, F.max_pool2d_with_indices, F.adaptive_max_pool2d},
    "avg": {F.avg_pool2d},
    "norm": {F.batch_norm},
    "linear": {F.linear},
}  # fmt: skip
_KIND = {function: kind for kind, functions in _NAMED.items() for function in functions}


class _Rectify(torch.autograd.Function):
    """A ReLU whose backward asks the oracle, when it runs, which rule is to be followed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, oracle: "Oracle", ceiling: float) -> Tensor:
        ctx.oracle, ctx.ceiling = oracle, ceiling
        ctx.save_for_backward(x)
        return x.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        passed = (x > 0) & (x < ctx.ceiling)
        rule = ctx.oracle.rule
        if rule in ("deconv", "guided"):
            g = torch.where(g > 0, g, torch.zeros_like(g))
        if rule in ("guided", "gradient"):
            g = torch.where(passed, g, torch.zeros_like(g))
        return g, None, None


class _PassBy(torch.autograd.Function):
    """Local response normalisation that is the identity on the way down, or its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, oracle: "Oracle", arguments: tuple[Any, Any]) -> Tensor:
        ctx.oracle, ctx.arguments = oracle, arguments
        ctx.save_for_backward(x)
        return F.local_response_norm(x, *arguments[0], **arguments[1])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        if ctx.oracle.lrn == "identity":
            return g, None, None
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            y = F.local_response_norm(x, *ctx.arguments[0], **ctx.arguments[1])
        return torch.autograd.grad(y, x, g)[0], None, None


class Oracle(TorchFunctionMode):
    """One forward pass of a module, and any number of ways down from the calls that it made.

    Attributes:
        calls: kind of call ("relu", "cat", "sum", "conv", "max", "avg", "norm", "linear", "lrn")
            to the outputs of its calls in order of execution.
    """

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.rule, self.lrn = "deconv", "identity"
        self.calls: defaultdict[str, list[Tensor]] = defaultdict(list)
        self.x = x.detach().clone().requires_grad_()
        frozen = {name: p.detach() for name, p in module.named_parameters()}
        with torch.enable_grad(), self:
            # A module that writes into its input writes into this copy; autograd keeps the leaf.
            functional_call(module, frozen, (self.x.clone(),), tie_weights=True)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _RELU or func in _RELU6:
            return self._rectify(func, args, kwargs)
        if func is F.local_response_norm:
            return self._keep("lrn", _PassBy.apply(args[0], self, (args[1:], kwargs)))
        if _KIND.get(func, "sum") not in ("sum", "cat") and args:
            # What autograd saves of the input must outlive the module's writing into it.
            args = (args[0].clone(), *args[1:])
        result = func(*args, **kwargs)
        if func in _KIND and isinstance(result, Tensor):
            result = self._keep(_KIND[func], result)
        return result

    def _rectify(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        if func is F.hardtanh:
            assert (kwargs["min_val"], kwargs["max_val"]) == (0.0, 6.0), "no ReLU6"
        inplace = kwargs.get("inplace", args[1] if len(args) > 1 else False)
        x = args[0] if args else kwargs["input"]
        y = _Rectify.apply(x.clone(), self, 6.0 if func in _RELU6 else float("inf"))
        kept = self._keep("relu", y)
        return x.copy_(kept) if inplace or func.__name__.endswith("_") else kept

    def _keep(self, kind: str, result: Tensor) -> Tensor:
        """Remember the value as it is now; the module goes on with a copy it may write into."""
        if result.grad_fn is not None:
            self.calls[kind].append(result.clone())
        return result

    def value(self, kind: str, k: int) -> Tensor:
        """The output of the k-th call of a kind, [c, h, w] or [features]."""
        return self.calls[kind][k][0].detach()

    def project(
        self, kind: str, k: int, place: tuple[int, ...], rule: str, lrn: str = "identity"
    ) -> Tensor:
        """The pixels [c, H, W] of the activation at `place` of the k-th call of a kind.

        Args:
            place: (channel, y, x), or (feature,) for a vector.
        """
        self.rule, self.lrn = rule, lrn
        top = self.calls[kind][k]
        seed = torch.zeros_like(top)
        seed[(0, *place)] = top.detach()[(0, *place)]
        (pixels,) = torch.autograd.grad(top, self.x, seed, retain_graph=True)
        return pixels[0]


def relative_error(ours: Tensor, truth: Tensor) -> float:
    """Largest difference over the largest true value; absolute where all true values are zero."""
    return float((ours - truth).abs().max() / (truth.abs().max() or 1.0))
