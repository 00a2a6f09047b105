"""kill -9 of the server at random moments, while it starts too: what it accepted, it keeps.

Clients upload pictures and submit jobs, each with a key of its own, until the server is gone, and
repeat after the restart what they got no answer to. After each kill the processes that the server
had started must leave, and the database must pass SQLite's own check; after each start all that
was accepted must be there. Exit code 1 where a promise was broken.
"""

import argparse
import contextlib
import http.client
import io
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tests.reliability import serving
from tests.reliability.ledger import audit
from tests.reliability.workload import alive, ask, descendants, finish, order, prepare, upload

PICTURES = 3000
PATIENCE_S = 60.0


class Client:
    """Uploads and submits, one after the other, and remembers what was accepted.

    Attributes:
        jobs: key → the accepted job's id.
        images: ids of the accepted pictures.
        open: keys of submissions without an answer.
    """

    def __init__(self, number: int) -> None:
        self.jobs: dict[str, str] = {}
        self.images: set[str] = set()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self._number = number
        self._sent = 0

    def work(self, served: serving.Served, ended: threading.Event) -> None:
        """Until the server is gone."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            for key in list(self.open):
                self._submit(served, key)
            while not ended.wait(0.05):
                self._sent += 1
                self._upload(served)
                self.open.append(f"{self._number}-{self._sent}")
                self._submit(served, self.open[-1])

    def _submit(self, served: serving.Served, key: str) -> None:
        client, sent = map(int, key.split("-"))
        body = order(glob=f"{(client * 37 + sent) % (PICTURES // 10):05d}?.png")
        status, answer = ask(served, "POST", "/jobs", body, **{"Idempotency-Key": key})
        if status not in (200, 202):
            self.wrong.append(f"a submission was answered {status}: {answer!r}")
            return
        self.jobs[key] = json.loads(answer)["id"]
        self.open.remove(key)

    def _upload(self, served: serving.Served) -> None:
        buffer = io.BytesIO()
        pixels = random.Random(f"{self._number}-{self._sent}").randbytes(192)
        Image.frombytes("RGB", (8, 8), pixels).save(buffer, "PNG")
        status, answer = upload(served, buffer.getvalue())
        if status not in (200, 201):
            self.wrong.append(f"an upload was answered {status}: {answer!r}")
            return
        self.images.add(json.loads(answer)["id"])


def _integrity(data_dir: Path) -> str:
    with contextlib.closing(sqlite3.connect(data_dir / "deconvnet.sqlite")) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def _gone_after(pids: list[int]) -> float:
    """Seconds until the last of them has left, up to `PATIENCE_S`."""
    started = time.monotonic()
    _wait(lambda: not any(map(alive, pids)))
    return time.monotonic() - started


def _missing(served: serving.Served, clients: list[Client], moments: random.Random) -> int:
    """How many accepted jobs and pictures the server does not know; of many, a sample."""
    paths = [f"/jobs/{job}" for client in clients for job in client.jobs.values()]
    paths += [f"/images/{image}" for client in clients for image in client.images]
    sample = moments.sample(paths, min(40, len(paths)))
    return sum(ask(served, "GET", path)[0] != http.client.OK for path in sample)


@dataclass
class Found:
    """What a row says: seconds of starts and of leaving, and how often a promise was broken."""

    ready: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    missing: int = 0
    damaged: int = 0
    done: int = 0


def _wait(reached: Callable[[], bool]) -> None:
    """Until it is so, up to `PATIENCE_S`."""
    until = time.monotonic() + PATIENCE_S
    while not reached() and time.monotonic() < until:
        time.sleep(0.02)


def _kill(process: subprocess.Popen[str], found: Found) -> None:
    below = descendants(process.pid)
    process.kill()
    process.wait()
    found.left.append(_gone_after(below))


def _killed_at_work(
    data: Path,
    settings: dict[str, object],
    clients: list[Client],
    moments: random.Random,
    found: Found,
) -> None:
    started = time.monotonic()
    served = serving.start(data, settings=settings)
    found.ready.append(time.monotonic() - started)
    found.missing += _missing(served, clients, moments)
    ended = threading.Event()
    working = [threading.Thread(target=one.work, args=(served, ended)) for one in clients]
    for thread in working:
        thread.start()
    before = sum(len(one.jobs) for one in clients)
    if moments.random() < 0.8:  # the rest are killed while the first requests are under way
        _wait(lambda: sum(len(one.jobs) for one in clients) > before)
    time.sleep(moments.uniform(0, 1.5))
    _kill(served.process, found)
    ended.set()
    for thread in working:
        thread.join()


def _killed_at_start(
    data: Path, settings: dict[str, object], moments: random.Random, found: Found
) -> None:
    process = serving.launch(data, settings=settings)
    time.sleep(moments.uniform(0, 1.5 * min(found.ready)))
    _kill(process, found)


def _settle(
    data: Path, settings: dict[str, object], clients: list[Client], found: Found
) -> tuple[set[str], set[str]]:
    """Let everything come to its end; the jobs and pictures that were accepted."""
    with serving.server(data, settings=settings) as served:
        ended = threading.Event()
        ended.set()
        for client in clients:
            client.work(served, ended)  # what has no answer yet
        jobs = {job for client in clients for job in client.jobs.values()}
        images = {image for client in clients for image in client.images}
        found.done = [finish(served, job)["state"] for job in jobs].count("succeeded")
        asked = [ask(served, "GET", f"/images/{one}.png")[0] for one in images]
        found.missing += len(asked) - asked.count(http.client.OK)
        served.process.terminate()
        served.process.wait()
    return jobs, images


def main() -> int:
    """Print the row; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--ready-s", type=float, default=10.0, help="that a start may take")
    parser.add_argument("--leave-s", type=float, default=5.0, help="that processes may stay")
    parser.add_argument("--folder", type=Path, help="where to work, such as /dev/shm")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    moments = random.Random(given.seed)
    clients, found = [Client(number) for number in range(2)], Found()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        data = Path(name, "data")
        settings = prepare(Path(name), PICTURES) | {"queued_jobs": 1_000_000}
        for number in range(given.kills):
            if number % 4 == 1:
                _killed_at_start(data, settings, moments, found)
            else:
                _killed_at_work(data, settings, clients, moments, found)
            found.damaged += _integrity(data) != "ok"
        jobs, images = _settle(data, settings, clients, found)
        end = audit(data)
    wrong = [text for client in clients for text in client.wrong]
    print("\n".join(wrong[:5]), end="\n" * bool(wrong))
    print(
        f"{given.kills} kills: of {len(jobs)} jobs and {len(images)} pictures accepted "
        f"{found.missing} missing; {found.done} jobs succeeded, {len(end.jobs) - len(jobs)} unknown"
        f" to their clients; ready again after {max(found.ready):.1f} s at most, processes gone "
        f"after {max(found.left):.1f} s at most; {found.damaged} damaged databases, {end.twice} "
        f"items committed twice, {end.torn} torn files, {end.lost} files missing, "
        f"{end.unfinished} temporary files left"
    )
    kept = end.sound and not (found.missing or found.damaged or wrong or end.unfinished)
    kept = kept and found.done == len(jobs) == len(end.jobs)
    return int(not kept or max(found.ready) > given.ready_s or max(found.left) > given.leave_s)


if __name__ == "__main__":
    sys.exit(main())
