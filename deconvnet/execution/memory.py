"""The memory budget of a computation, and how a lack of memory is recognised."""

import functools
import os
import re
import time

import torch

from deconvnet.errors import ParameterError
from deconvnet.execution.free_memory import free_memory

_SHARE = 0.25  # of free memory, unless a budget is set


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
