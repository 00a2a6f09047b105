"""Every Nth change of a disk below a folder fails, for every N: old state or new, never mixed.

Writes, syncs, renames, truncations, links, removals, files and folders that are made: a library
loaded before the C library (`write_faults.c`, compiled here) lets them fail in the server, in
SQLite, in the workers and in `deconvnet index`, for want of room or by an error, once or from the
Nth on until there is room again, or kills the process there. N rises until nothing fails. What
fails:

    work     a running server: a picture is uploaded and a job computes it
    start    a server's first start: token, database, lock, and its end
    start-workers
             the same with worker processes, where the others compute in the server
    index    the building of an index
    replace  the same in place of an index of other parameters

An N that takes longer than `--most-s` is a broken promise. Exit code 1 where there is one, 0 with a
word where there is no C compiler.
"""

import argparse
import errno
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.reliability.disk import Disk, Fault
from tests.reliability.faulty_index import Indexing
from tests.reliability.faulty_start import Start
from tests.reliability.faulty_work import Work
from tests.reliability.preload import compiled

NAME = "write_faults"
KILLED = (0, False)
WAYS = (*itertools.product((errno.ENOSPC, errno.EIO), (False, True)), KILLED)
MOST_WRONG = 5  # of one way, which then ends


class Part(Protocol):
    """Something that is done on a failing disk."""

    def count(self) -> int:
        """How many calls it takes."""

    def run(self, fault: Fault) -> bool:
        """Do it; whether the fault was reached. An exception: a promise was broken."""

    def close(self) -> None:
        """End what runs. An exception: a promise was broken."""


PARTS: dict[str, Callable[[Disk, Path, Path, float], Part]] = {
    "work": Work,
    "start": partial(Start, backend="inline"),
    "start-workers": partial(Start, backend="process"),
    "index": partial(Indexing, replacing=False),
    "replace": partial(Indexing, replacing=True),
}


@dataclass
class Found:
    """What a row says."""

    tried: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Pace:
    """Tells, now and then, how far a part is."""

    name: str
    expected: int
    started: float = field(default_factory=time.monotonic)
    told: float = 0.0
    done: int = 0

    def step(self, fault: Fault) -> None:
        """One more is done."""
        self.done += 1
        now = time.monotonic()
        if now - self.told < 5:
            return
        self.told = now
        rate = self.done / (now - self.started)
        left = max(0, self.expected - self.done) / rate
        said = f"{self.name}: {fault}; {self.done} of about {self.expected}"
        print(f"{said}, {rate:.2f}/s, {left:.0f} s left", file=sys.stderr, flush=True)


def _try(name: str, part: Part, numbers: Sequence[int] | None, start: int, found: Found) -> None:
    count = part.count()
    ways = [way for way in WAYS if way != KILLED or name != "work"]  # server_kills.py does that
    pace = Pace(name, len(ways) * (len(numbers) if numbers else max(1, count - start + 1)))
    for error, lasting in ways:
        wrong = 0
        for first in numbers or itertools.count(start):
            fault = Fault(first, error, lasting)
            found.tried += 1
            reached = True
            try:
                reached = part.run(fault)
            except (RuntimeError, OSError) as broken:
                wrong += 1
                found.wrong.append(f"{name}, {fault}: {broken}")
                print(found.wrong[-1], file=sys.stderr, flush=True)
            pace.step(fault)
            if not reached or wrong >= MOST_WRONG:
                break


def _row(name: str, given: argparse.Namespace) -> Found:
    found = Found()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place)
        library = compiled(folder, NAME)
        assert library is not None
        disk = Disk(library, folder / "state", folder / "data")
        part = PARTS[name](disk, folder, folder / "data", given.most_s)
        try:
            _try(name, part, given.only, given.start, found)
        finally:
            try:
                part.close()
            except RuntimeError as broken:
                found.wrong.append(f"{name}, at the end: {broken}")
        refused = f", {part.refused} answers 507" if isinstance(part, Work) else ""
    print("\n".join(found.wrong[:20]), end="\n" * bool(found.wrong))
    print(f"{name}: {found.tried} faults{refused}, {len(found.wrong)} promises broken", flush=True)
    return found


def main() -> int:
    """Print the rows; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, help="these alone; else all")
    parser.add_argument("--only", type=int, nargs="*", help="these N; else every one")
    parser.add_argument("--from", type=int, default=1, dest="start", help="the first N")
    parser.add_argument("--most-s", type=float, default=60.0, help="seconds that an N may take")
    parser.add_argument("--folder", type=Path, help="where to work, such as /dev/shm")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    with tempfile.TemporaryDirectory() as place:
        if compiled(Path(place), NAME) is None:
            print("There is no C compiler here: nothing was tried.")
            return 0
    rows = [_row(name, given) for name in given.parts or PARTS]
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())
