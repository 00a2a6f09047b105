"""Values computed from weights alone: made when first asked for, kept until a weight changes.

This is the one cache of its kind: folded and transposed kernels, the fingerprint of a network, the
image-independent prefixes of projections and Winograd's kernels lie in instances of it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from torch import Tensor

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

State = tuple[tuple[int, int], ...]


def state(weights: Iterable[Tensor | None]) -> State | None:
    """A key that changes when a weight is written to or replaced; None if torch keeps no count.

    It is torch's version counter and the address of the storage. A write that bypasses both, to a
    part of `.data` or through NumPy, goes unnoticed: `Network.refresh` is for those.
    """
    found = []
    for weight in weights:
        if weight is None:
            continue
        if weight.is_inference():
            return None
        found.append((weight._version, weight.data_ptr()))
    return tuple(found)


class Derived(Generic[K, T]):
    """Values by key, each with the state of the weights that it was computed from.

    Threads may share it. A value may be computed twice when two threads ask for it at once.

    Args:
        most: bytes of tensors to keep, the most recently used ones; None: all.

    Attributes:
        nbytes: of the tensors that are kept.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, tuple[State, T]] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, key: K, now: State | None, make: Callable[[], T]) -> T:
        """The value for a key, from `make` unless one is kept for this state of the weights.

        Args:
            now: what `state` gives for the weights that `make` reads; None: nothing is kept.
        """
        if now is None:
            return make()
        with self._lock:
            held = self._kept.get(key)
            if held is not None and held[0] == now:
                self._kept.move_to_end(key)
                return held[1]
        value = make()
        with self._lock:
            self._drop(self._kept.pop(key, None))
            self._kept[key] = (now, value)
            self.nbytes += _nbytes(value)
            while self._most is not None and self.nbytes > self._most:
                self._drop(self._kept.popitem(last=False)[1])
        return value

    def _drop(self, held: tuple[State, T] | None) -> None:
        self.nbytes -= 0 if held is None else _nbytes(held[1])


def _nbytes(value: object) -> int:
    return value.nbytes if isinstance(value, Tensor) else 0
