"""How many images to run at a time: from a memory budget, halved where that was too much."""

import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from deconvnet.errors import ParameterError
from deconvnet.graph.nodes import Node
from deconvnet.room import free_memory, give_back

_SHARE = 0.25  # of free memory, unless a budget is set
_LIMIT = 128  # beyond this a larger batch gains nothing

T = TypeVar("T")


def free_bytes(device: torch.device) -> int:
    """What is free on the device, or in main memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _lately_free(int(time.monotonic()))


@functools.lru_cache(maxsize=1)
def _lately_free(_second: int) -> int:
    """Of main memory, within the second: a small batch takes less time than reading it does."""
    return free_memory()


def budget(device: torch.device) -> int:
    """Bytes that one computation plans with: DECONVNET_MEMORY_MB, or a quarter of what is free.

    What is freed in between and not given back to the system comes on top.

    Raises:
        ParameterError: the variable holds something else.
    """
    asked = os.environ.get("DECONVNET_MEMORY_MB")
    if not asked:
        return int(_SHARE * free_bytes(device))
    try:
        megabytes = float(asked)
    except ValueError:
        megabytes = -1.0
    if not 0 < megabytes < 2**40:
        raise ParameterError(
            f"DECONVNET_MEMORY_MB is '{asked[:40]}', expected a number of MiB above 0."
        )
    return int(megabytes * 2**20)


def batch_size(nodes: Sequence[Node], dtype: torch.dtype, device: torch.device) -> int:
    """Images at a time for a plain walk: the three largest maps of one image must fit together."""
    sizes = sorted((torch.Size(node.shape).numel() for node in nodes), reverse=True)
    each = sum(sizes[:3]) * torch.empty((), dtype=dtype).element_size()
    return max(1, min(_LIMIT, budget(device) // max(1, each)))


_MISSING = re.compile(
    "can't allocate memory|not enough memory|bad_alloc|Cannot allocate memory"
    # oneDNN's, when there is no room for its code or scratch; "primitive descriptor" is another
    "|could not (create|execute) a primitive(?! desc)"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was missing: Python's, CUDA's, or torch's on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _MISSING.search(str(error)) is not None


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
