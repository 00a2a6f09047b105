"""A disk that can be made to fail, for the processes that are started on it."""

import errno
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

FOREVER = 1 << 60


@dataclass(frozen=True)
class Fault:
    """What fails: one call, counted from 1, or all from that one on; and by which error.

    Without an error (0), the process that makes the call is killed.
    """

    first: int
    error: int
    lasting: bool

    @property
    def last(self) -> int:
        """The last call that fails."""
        return FOREVER if self.lasting else self.first

    @property
    def way(self) -> str:
        """Everything of it but the number."""
        if not self.error:
            return "killed at call"
        return f"{errno.errorcode[self.error]} {'from' if self.lasting else 'at'} call"

    def __str__(self) -> str:
        return f"{self.way} {self.first}"


class Disk:
    """A folder whose changes are counted and fail on request, in whatever process makes them.

    Attributes:
        variables: of the environment of those processes.
    """

    def __init__(self, library: Path, state: Path, below: Path) -> None:
        state.write_bytes(bytes(32))
        with state.open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), 32)
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAULTS_STATE": str(state),
            "FAULTS_BELOW": f"{below}/",
        }

    def arm(self, first: int, last: int, error: int) -> None:
        """Count anew; the calls from `first` to `last` fail."""
        self._map[:] = struct.pack("4q", 0, first, last, error)

    def disarm(self) -> int:
        """Nothing fails any more; how many calls there were."""
        count = int(struct.unpack_from("q", self._map)[0])
        self._map[8:24] = bytes(16)
        return count
