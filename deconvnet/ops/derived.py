"""What is computed from weights alone: made when it is first asked for, kept until they change."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from torch import Tensor

T = TypeVar("T")

State = tuple[tuple[int, int, object], ...]


def state(weights: Iterable[Tensor]) -> State | None:
    """What differs once a weight was written to; None where torch does not count that."""
    found = []
    for weight in weights:
        if weight.is_inference():
            return None
        found.append((weight._version, weight.data_ptr(), weight.dtype))
    return tuple(found)


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
