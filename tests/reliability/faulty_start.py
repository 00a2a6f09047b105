"""A server that starts on a failing disk, in an empty folder."""

import contextlib
import http.client
import shutil
import signal
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from deconvnet_app.access import Access
from tests.reliability.disk import Disk, Fault
from tests.reliability.warm import Ended, Warm


def in_order(ended: Ended, fault: Fault) -> bool:
    """Whether a command was killed by its fault, or said in a line what failed and ended with 2."""
    if ended.code == -signal.SIGKILL and not fault.error:
        return True
    last = (ended.log.splitlines() or [""])[-1]
    return ended.code == 2 and last.startswith("deconvnet: ") and "Traceback" not in ended.log


class Start:
    """Each fault meets a start of its own; the next start, undisturbed, must find all in order.

    Args:
        backend: "inline", or "process": a server that also starts workers, and what forks them.
    """

    def __init__(
        self, disk: Disk, folder: Path, data: Path, most_s: float, *, backend: str
    ) -> None:
        self._disk, self._data, self._most_s = disk, data, most_s
        variables = {"DECONVNET_BACKEND": backend, "DECONVNET_DEVICE": "cpu", **disk.variables}
        variables["TMPDIR"] = str(folder)  # what forks workers leaves its socket there when killed
        self._warm = Warm(
            folder,
            "deconvnet_app.server, deconvnet_app.compute.backends.inline, alembic.command",
            variables,
        )

    def count(self) -> int:
        """The calls of a start that nothing disturbs, and of its end."""
        self._run(Fault(0, 0, lasting=False))
        return self._calls

    def run(self, fault: Fault) -> bool:
        """Start, and start again; whether the fault was reached.

        Raises:
            RuntimeError, TimeoutError, OSError: a promise was broken.
        """
        self._run(fault)
        return self._calls >= fault.first

    def _run(self, fault: Fault) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir()
        self._disk.arm(fault.first, fault.last, fault.error)
        link = self._begin()
        ended = self._warm.end(self._most_s, signal.SIGTERM if link else None)
        self._calls = self._disk.disarm()
        if not (link and ended.code == 0) and not in_order(ended, fault):
            raise RuntimeError(f"it ended with {ended.code}, started: {link!r}: {ended.log}")
        link = self._begin()
        if link:
            self._ask(link)
        ended = self._warm.end(self._most_s, signal.SIGTERM if link else None)
        if not link or ended.code != 0:
            raise RuntimeError(f"the next start ended with {ended.code}: {ended.log}")
        self._look()

    def _begin(self) -> str:
        self._warm.begin("serve", "--data-dir", str(self._data), "--port", "0")
        return self._warm.first_line(self._most_s)

    def _ask(self, link: str) -> None:
        port = urlsplit(link.partition(" ")[0]).port or 0
        bearer = {"Authorization": f"Bearer {Access(self._data).token}"}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=self._most_s)
        with contextlib.closing(connection):
            for path, wanted in (("/readyz", "ok"), ("/api/v1/jobs", "items")):
                connection.request("GET", path, headers=bearer)
                answer = connection.getresponse()
                said = answer.read().decode()
                if answer.status != http.client.OK or wanted not in said:
                    self._warm.end(self._most_s, signal.SIGTERM)
                    raise RuntimeError(f"the next start answers {answer.status}: {said}")

    def _look(self) -> None:
        with contextlib.closing(sqlite3.connect(self._data / "deconvnet.sqlite")) as connection:
            (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
        left = [one.name for kind in (".tmp-*", ".token-*") for one in self._data.rglob(kind)]
        if integrity != "ok" or left:
            raise RuntimeError(f"integrity_check {integrity}, temporary files left: {left}")

    def close(self) -> None:
        """End what runs."""
        self._warm.close()
