"""A Ray cluster is lost, whole, while it computes a job, and comes back: the job goes on.

The cluster is this script's own, on the loopback interface, and asks for a token. Every process of
it is killed, the server must go on answering, and after a while the cluster is started again at
its address. Nothing may fail, no item's worker may be counted as dead of it, and what comes of each
item must be what a server without a cluster makes of it, file by file. Exit code 1 where a promise
was broken, 0 with a word where Ray is not installed.
"""

import argparse
import contextlib
import http.client
import importlib.util
import json
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability import serving
from tests.reliability.ledger import Ledger, audit
from tests.reliability.workload import ask, finish, order, prepare, read, submit


@dataclass
class Found:
    """What a row says: seconds from the cluster's return to the next result, and what was wrong."""

    back: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _undisturbed(folder: Path, settings: dict[str, object]) -> Ledger:
    with serving.server(folder, settings=settings) as served:
        finish(served, submit(served, order()))
    return audit(folder)


def _await_done(served: serving.Served, job: str, items: int, most_s: float) -> dict[str, Any]:
    """The job once so many items are done; raises TimeoutError."""
    until = time.monotonic() + most_s
    while time.monotonic() < until:
        found = read(served, job)
        if found["counts"]["succeeded"] >= items or found["finished_at"] is not None:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{items} items are not done after {most_s:g} s: {found['counts']}")


def _lose(
    cluster: Any, served: serving.Served, job: str, given: argparse.Namespace, found: Found
) -> None:
    """Kill the cluster, look at the server meanwhile, and start the cluster again."""
    done = read(served, job)["counts"]["succeeded"]
    _tell(f"after {done} items every process of the cluster is killed")
    cluster.kill()
    until = time.monotonic() + given.away_s
    while time.monotonic() < until:
        status, answer = ask(served, "GET", "/readyz")
        if status != http.client.OK:
            found.wrong.append(f"without the cluster /readyz is {status}: {answer.decode()}")
        time.sleep(0.5)
    away = read(served, job)
    if away["state"] != "running":
        found.wrong.append(f"without the cluster the job is {away['state']}: give more pictures")
    cluster.start()
    started = time.monotonic()
    _await_done(served, job, away["counts"]["succeeded"] + 1, given.most_s)
    found.back.append(time.monotonic() - started)
    _tell(f"the first result came {found.back[-1]:.1f} s after the cluster was back")


def _deaths(data: Path) -> int:
    with contextlib.closing(sqlite3.connect(data / "deconvnet.sqlite")) as connection:
        return int(connection.execute("SELECT max(deaths) FROM items").fetchone()[0])


def _disturbed(
    cluster: Any, data: Path, settings: dict[str, object], given: argparse.Namespace, found: Found
) -> Ledger:
    where = ("--backend", "ray", "--ray-address", cluster.address)
    served = serving.start(data, *where, settings=settings, variables=cluster.environment())
    try:
        job = submit(served, order())
        for number in range(given.times):
            part = (number + 1) * given.pictures // (given.times + 2)
            _await_done(served, job, part, given.most_s)
            _lose(cluster, served, job, given, found)
        ended = finish(served, job, given.most_s)
        if ended["counts"]["succeeded"] != given.pictures:
            errors = ask(served, "GET", f"/jobs/{job}/errors.jsonl")[1].splitlines()
            said = [json.loads(line)["error"] for line in errors[:3]]
            found.wrong.append(f"the job ended as {ended['state']} {ended['counts']}: {said}")
        served.process.terminate()
        if (code := served.process.wait(60)) != 0:
            found.wrong.append(f"the server ended with {code}")
    finally:
        served.process.kill()
        served.process.wait()
    return audit(data)


def main() -> int:
    """Print the row; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--times", type=int, default=2, help="that the cluster is lost")
    parser.add_argument("--away-s", type=float, default=10.0, help="seconds that it is away")
    parser.add_argument("--most-s", type=float, default=300.0, help="to wait for anything")
    given = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        print("Ray is not installed: nothing was tried.")
        return 0
    from tests.support.ray_cluster import ray_cluster

    found = Found()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = prepare(folder, given.pictures)
        calm = _undisturbed(folder / "calm", settings)
        _tell(f"undisturbed: {len(calm.results)} items")
        with ray_cluster() as cluster:
            end = _disturbed(cluster, folder / "data", settings, given, found)
        deaths = _deaths(folder / "data")
    differing = len(
        {(n, one) for (_, n), one in calm.results.items()}
        ^ {(n, one) for (_, n), one in end.results.items()}
    )
    print("\n".join(found.wrong), end="\n" * bool(found.wrong))
    print(
        f"{given.times} losses during {given.pictures} items: {len(end.results)} succeeded, "
        f"{differing} differ from an undisturbed run, {deaths} deaths counted; the next result "
        f"{max(found.back, default=0):.1f} s after the cluster's return at most; {end.twice} items "
        f"committed twice, {end.torn} torn files, {end.lost} files missing, integrity_check "
        f"{end.integrity}"
    )
    kept = end.sound and len(end.results) == given.pictures and not (differing or deaths)
    return int(not kept or bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
