"""A flood of submissions beside a running job: refused with 429, and the job hardly slows.

Windows without and with the flood take turns; what is compared is how many of the job's items end
in them. The flooding process has the lowest priority, since it stands for other machines. Exit code
1 if anything but 202 and 429 came, more than the rate was taken, or the job slows by too much.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.reliability import load, serving

RATE = 120  # submissions a minute that are taken, as is usual


async def flood(served: load.Elsewhere, body: bytes, seconds: float, clients: int) -> Counter[int]:
    """How often each status came."""
    statuses: Counter[int] = Counter()
    until = time.perf_counter() + seconds

    async def client() -> None:
        async with load.Connection(served) as connection:
            while time.perf_counter() < until:
                status, told, _ = await connection.ask("POST", load.JOBS, body)
                assert status != 429 or "retry-after" in told
                statuses[status] += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return statuses


def flooding(served: serving.Served, dataset: Path, seconds: float, clients: int) -> Counter[int]:
    """The same in a process of its own, at the lowest priority."""
    command = [sys.executable, __file__, "--as-client", str(served.port), str(dataset)]
    given = ["--seconds", str(seconds), "--clients", str(clients)]
    environment = os.environ | {"TOKEN": served.token}
    told = subprocess.run(
        [*command, *given], env=environment, check=True, capture_output=True, text=True
    )
    return Counter(dict(tuple(map(int, one.split(":"))) for one in told.stdout.split()))


async def ended(served: serving.Served, job: str) -> int:
    """How many of the job's items have ended."""
    async with load.Connection(served) as connection:
        found = await connection.json("GET", f"{load.JOBS}/{job}")
    assert found["state"] == "running", found["state"]
    return int(found["counts"]["succeeded"])


async def begin(served: serving.Served, dataset: Path) -> str:
    """The job that keeps the worker busy."""
    async with load.Connection(served) as connection:
        await load.warm(connection, load.occlusion(dataset, 16, 1))
        return str((await connection.json("POST", load.JOBS, load.occlusion(dataset, 4)))["id"])


def compare(
    served: serving.Served, dataset: Path, given: argparse.Namespace
) -> tuple[list[float], Counter[int]]:
    """Of each pair of windows, items a second with the flood over those without; the statuses."""
    job = asyncio.run(begin(served, dataset))
    ratios, statuses = [], Counter[int]()
    for _ in range(given.pairs):
        rates = []
        for wet in (False, True):
            before, began = asyncio.run(ended(served, job)), time.perf_counter()
            if wet:
                statuses += flooding(served, dataset, given.seconds, given.clients)
            else:
                time.sleep(given.seconds)
            done = asyncio.run(ended(served, job)) - before
            rates.append(done / (time.perf_counter() - began))
        ratios.append(rates[1] / max(rates[0], 1e-9))
        print(f"items a second: {rates[0]:.2f} without, {rates[1]:.2f} with: {ratios[-1]:.2f}")
    return ratios, statuses


def main() -> int:
    """Print the figures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of a window")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--images", type=int, default=2000, help="of the job")
    parser.add_argument("--most-slower", type=float, default=0.10)
    parser.add_argument("--as-client", nargs=2, metavar=("PORT", "DATASET"), help="flood, no more")
    given = parser.parse_args()
    if given.as_client:
        os.nice(19)
        port, dataset = given.as_client
        served = load.Elsewhere(int(port), os.environ["TOKEN"])
        body = load.occlusion(Path(dataset), 16, 1)
        found = asyncio.run(flood(served, body, given.seconds, given.clients))
        print(*(f"{status}:{often}" for status, often in found.items()))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        dataset = load.pictures(Path(folder, "pictures"), given.images)
        settings: dict[str, object] = {"submissions": RATE}
        arguments = ["--dataset", str(dataset)]
        with serving.server(Path(folder, "data"), *arguments, settings=settings) as served:
            ratios, statuses = compare(served, dataset, given)
            alive = served.process.poll() is None
    sent, middle = statuses.total(), statistics.median(ratios)
    print(f"{sent} submissions, {sent / given.seconds / given.pairs:.0f} a second: {statuses}")
    print(f"the job goes {1 - middle:.1%} slower (median of {given.pairs} pairs)")
    minutes = 1 + 2 * given.seconds * given.pairs / 60
    strange = set(statuses) - {202, 429} or statuses[202] > RATE * minutes
    return int(bool(strange) or not alive or not statuses[429] or 1 - middle > given.most_slower)


if __name__ == "__main__":
    sys.exit(main())
