"""What is computed from weights alone: made when it is first asked for, kept until they change."""

import functools
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

State = tuple[tuple[int, int, object, float], ...]


def state(weights: Iterable[Tensor]) -> State | None:
    """What differs once a weight was written to; None where torch does not count that.

    Torch does not count what is written through `.data` or NumPy either, so some of the numbers are
    looked at: a write to a whole tensor, filter, channel or tap is seen, one to a single number may
    not be.
    """
    found = []
    for weight in weights:
        if weight.is_inference():
            return None
        found.append((weight._version, weight.data_ptr(), weight.dtype, _glimpse(weight)))
    return tuple(found)


def _glimpse(weight: Tensor) -> float:
    """A number that follows some of a tensor: of each filter, each channel and each tap one."""
    if not weight.numel():
        return 0.0
    at, ramp = _diagonal(tuple(weight.shape), weight.device)
    return float(torch.take(weight.detach(), at).double() @ ramp)


@functools.lru_cache(maxsize=1024)
def _diagonal(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    filters, channels = (*shape, 1, 1)[:2]
    taps = torch.Size(shape[2:]).numel()
    step = torch.arange(max(filters, channels, taps), device=device)
    return ((step % filters) * channels + step % channels) * taps + step % taps, 1.0 + step.double()


class Derived(Generic[T]):
    """What is computed from some weights.

    Args:
        make: computes it from the weights as they are now.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._held: tuple[State, T] | None = None

    def of(self, *weights: Tensor) -> T:
        """It, for the weights as they are now."""
        now = state(weights)
        if now is None:
            return self._make()
        if self._held is None or self._held[0] != now:
            self._held = (now, self._make())
        return self._held[1]
