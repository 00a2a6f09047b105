"""Work in batches that fit into memory, halved where one did not."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from deconvnet.execution.free_memory import give_back
from deconvnet.execution.memory import budget, out_of_memory
from deconvnet.graph.nodes import Node

_LIMIT = 128  # beyond this a larger batch gains nothing


T = TypeVar("T")


def batch_size(nodes: Sequence[Node], dtype: torch.dtype, device: torch.device) -> int:
    """Images at a time for a plain walk: the three largest maps of one image must fit together."""
    sizes = sorted((torch.Size(node.shape).numel() for node in nodes), reverse=True)
    each = sum(sizes[:3]) * torch.empty((), dtype=dtype).element_size()
    return max(1, min(_LIMIT, budget(device) // max(1, each)))


def in_slices(
    count: int,
    size: int,
    work: Callable[[slice], T],
    done: Callable[[int], None] | None = None,
) -> list[T]:
    """`work` over slices of range(count), in order; one that runs out of memory is halved.

    Raises:
        MemoryError: a single item does not fit.
    """
    parts, start = [], 0
    while start < count:
        stop = min(start + size, count)
        try:
            parts.append(work(slice(start, stop)))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if stop - start == 1:
                raise MemoryError("One image at a time does not fit into memory.") from error
            size = max(1, (stop - start) // 2)
        else:
            start = stop
            if done is not None:
                done(start)
            continue
        give_back()  # what the failed batch held, now that its error is gone with its frames
    return parts


def in_batches(
    count: int,
    size: int,
    work: Callable[[slice], Tensor],
    done: Callable[[int], None] | None = None,
) -> Tensor:
    """What `in_slices` gives, joined."""
    return torch.cat(in_slices(count, size, work, done))


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in runs of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
