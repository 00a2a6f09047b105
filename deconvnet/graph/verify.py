"""Compare a graph with the module it was made from."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deconvnet.errors import GraphError, reason

_HOOKS = {name for name in vars(nn.Module()) if name.endswith("_hooks")}


def eval_copy(module: nn.Module) -> nn.Module:
    """The same structure in eval mode, sharing parameters and buffers with the caller's module.

    Hooks stay behind: they are the caller's.
    """
    memo: dict[int, Any] = {id(t): t for t in (*module.parameters(), *module.buffers())}
    for part in module.modules():
        for name in _HOOKS & vars(part).keys():
            memo[id(getattr(part, name))] = OrderedDict()
    try:
        return copy.deepcopy(module, memo).eval()
    except Exception as error:
        raise GraphError(
            f"{type(module).__name__} cannot be copied: {reason(error)}. Parameters that are "
            "computed (weight_norm, spectral_norm) must be made plain ones first."
        ) from error


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """A forward that counts or averages into a buffer leaves the caller's as it was."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            if not torch.equal(buffer, value):
                buffer.copy_(value)


def verify(module: nn.Module, trial: Tensor, ours: Tensor) -> None:
    """Compare with the module's own output, in batches of other sizes than the trial's.

    What a graph has taken over of the trial's batch (its size as a number) shows so.
    """
    for places in ([0], [0, 1, 0]):
        try:
            theirs = module(trial[places])
        except Exception as error:  # the module's own code: anything
            raise GraphError(
                f"{type(module).__name__} fails on a batch of {[len(places), *trial.shape[1:]]}: "
                f"{reason(error).splitlines()[0]}. It must take any number of images."
            ) from error
        if not _agree(theirs, ours[places]):
            raise GraphError(
                f"The graph of {type(module).__name__} does not reproduce its output. The usual "
                "causes are an in-place operation on a tensor that is used again (use its "
                "out-of-place form), a result that depends on how many images there are, and a way "
                "that depends on what kind of object the input is (isinstance)."
            )


def _agree(theirs: Tensor, ours: Tensor) -> bool:
    scale = float(theirs.nan_to_num(0.0, 0.0, 0.0).abs().max()) or 1.0
    tolerance = torch.finfo(ours.dtype).eps ** 0.5  # rounding in another order stays far below it
    return theirs.shape == ours.shape and torch.allclose(
        theirs.to(ours.dtype), ours, rtol=0.0, atol=tolerance * scale, equal_nan=True
    )
