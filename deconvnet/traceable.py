"""What can be turned into a graph at all: a module that has its numbers, and a size."""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from deconvnet.errors import GraphError

_WRAPPERS = {
    "DataParallel": "its .module",
    "DistributedDataParallel": "its .module",
    "OptimizedModule": "the module that torch.compile was given (its ._orig_mod)",
    "RecursiveScriptModule": "the module that it was made from",
    "TopLevelTracedModule": "the module that it was made from",
}


def like(module: nn.Module) -> Tensor:
    """A tensor of the device and precision that a module computes in: of parameters, of buffers."""
    numbers = (
        t for t in itertools.chain(module.parameters(), module.buffers()) if t.is_floating_point()
    )
    return next(numbers, torch.empty(0))


def require_traceable(module: Any, input_size: Any) -> None:
    """Refuse what is no network with numbers, or no size.

    Raises:
        GraphError: it says what to give instead.
    """
    if not isinstance(module, nn.Module):
        raise GraphError(f"The network is {module!r:.80}, expected a torch.nn.Module.")
    inner = _WRAPPERS.get(type(module).__name__)
    if inner is not None:
        raise GraphError(f"{type(module).__name__} hides the network from a trace; give {inner}.")
    for name, part in module.named_modules():
        if is_parametrized(part):
            which = next(iter(part.parametrizations))
            place = name or type(module).__name__
            raise GraphError(
                f"'{which}' of '{place}' is computed by a parametrization (weight_norm, "
                "spectral_norm); make it a plain parameter with "
                f"torch.nn.utils.parametrize.remove_parametrizations(part, '{which}')."
            )
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_meta or nn.parameter.is_lazy(value):
            raise GraphError(
                f"'{name}' of {type(module).__name__} has no numbers yet (it is "
                f"{'lazy' if nn.parameter.is_lazy(value) else 'on the meta device'}); give the "
                "module its weights first."
            )
    if (
        not isinstance(input_size, tuple | list)
        or len(input_size) != 3
        or not all(isinstance(n, int) and n > 0 for n in input_size)
    ):
        raise GraphError(f"input_size is {input_size!r}, expected (channels, height, width).")
