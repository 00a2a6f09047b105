"""How many images to run at a time: from a memory budget, halved where that was too much."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from deconvnet.graph import Node

_SHARE = 0.25  # of free memory, unless a budget is set
_LIMIT = 128  # beyond this a larger batch gains nothing

T = TypeVar("T")


def free_bytes(device: torch.device) -> int:
    """What is free on the device, or in main memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def budget(device: torch.device) -> int:
    """Bytes that one computation may take: DECONVNET_MEMORY_MB, or a quarter of what is free."""
    asked = os.environ.get("DECONVNET_MEMORY_MB")
    return int(float(asked) * 2**20) if asked else int(_SHARE * free_bytes(device))


def batch_size(nodes: Sequence[Node], dtype: torch.dtype, device: torch.device) -> int:
    """Images at a time for a plain walk: the three largest maps of one image must fit together."""
    sizes = sorted((torch.Size(node.shape).numel() for node in nodes), reverse=True)
    each = sum(sizes[:3]) * torch.empty((), dtype=dtype).element_size()
    return max(1, min(_LIMIT, budget(device) // max(1, each)))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch has failed for want of memory, of the device or of the machine."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def in_slices(
    count: int,
    size: int,
    work: Callable[[slice], T],
    done: Callable[[int], None] | None = None,
) -> list[T]:
    """`work` over slices of range(count), in order; one that runs out of memory is halved.

    Raises:
        RuntimeError: a single item does not fit.
    """
    parts, start = [], 0
    while start < count:
        stop = min(start + size, count)
        try:
            parts.append(work(slice(start, stop)))
        except RuntimeError as error:
            if not out_of_memory(error) or stop - start == 1:
                raise
            size = max(1, (stop - start) // 2)
            continue
        start = stop
        if done is not None:
            done(start)
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
