"""How much memory is free to this process: the machine's, or less where its control group says so.

The page cache counts as free, since the system gives it up when asked. A container's limit is that
of its control group, version 2 (`memory.max`) or 1 (`memory.limit_in_bytes`), and of every group
around it.
"""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

# Of each version: the limit, what is used, and what of that is cache to be given up.
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


def free_memory(root: Path = Path("/")) -> int:
    """Bytes.

    Args:
        root: where the system's `proc` and `sys` are.
    """
    return max(0, min([_available(root), *_group_rooms(root)]))


def give_back() -> None:
    """Return what this process has freed to the system, where the C library can (glibc).

    It keeps blocks of up to 32 MiB for later, and with many sizes in turn keeps several times what
    is ever held at once.
    """
    if _TRIM is not None:
        _TRIM(0)


def _available(root: Path) -> int:
    found = _fields(root / "proc/meminfo").get("MemAvailable:")
    if found is not None:
        return 1024 * found
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _fields(file: Path) -> dict[str, int]:
    """The first two words of each line, a name and a number."""
    try:
        lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
        return {words[0]: int(words[1]) for words in lines if len(words) > 1}
    except (OSError, ValueError):
        return {}


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or "max"
        return None


def _group_rooms(root: Path) -> Iterator[int]:
    """What is left in each group that this process is in."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    groups = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            bases, names = [groups, groups / "unified"], _V2
        elif "memory" in controllers.split(","):
            bases, names = [groups / "memory"], _V1
        else:
            continue
        for base in bases:
            yield from _rooms(base, path, names)


def _rooms(base: Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """Of a group and those around it. In a container the group's path may be the host's."""
    own = base / path.strip("/")
    for group in (own, *own.parents):
        limit, used = (_number(group / name) for name in names[:2])
        if limit is not None and used is not None:
            yield limit - used + _fields(group / "memory.stat").get(names[2], 0)
        if group == base:
            return
