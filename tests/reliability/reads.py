"""Status reads while a job keeps the worker busy: how many a second, and how long each takes.

Exit code 1 if one fails, the job comes to its end meanwhile (the worker was not kept busy), or a
figure was not reached.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability import load, serving


async def read(served: serving.Served, job: str, until: float) -> list[float]:
    """Seconds of each read by one client that asks without a pause."""
    times = []
    async with load.Connection(served) as connection:
        while (began := time.perf_counter()) < until:
            status, _, _ = await connection.ask("GET", f"{load.JOBS}/{job}")
            times.append(time.perf_counter() - began)
            assert status == 200, status
    return times


async def run(
    served: serving.Served, dataset: Path, seconds: float, clients: int
) -> tuple[list[float], int, str]:
    """The reads' times, how many items ended meanwhile, and the job's state after."""
    async with load.Connection(served) as connection:
        await load.warm(connection, load.occlusion(dataset, 16, 1))
        job = (await connection.json("POST", load.JOBS, load.occlusion(dataset, 4)))["id"]
        await asyncio.sleep(1)
        before = await connection.json("GET", f"{load.JOBS}/{job}")
        until = time.perf_counter() + seconds
        found = await asyncio.gather(*(read(served, job, until) for _ in range(clients)))
        after = await connection.json("GET", f"{load.JOBS}/{job}")
    done = after["counts"]["succeeded"] - before["counts"]["succeeded"]
    return [one for times in found for one in times], done, after["state"]


def main() -> int:
    """Print the figures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--images", type=int, default=1000, help="of the job")
    parser.add_argument("--least-rate", type=float, default=300.0)
    parser.add_argument("--most-ms", type=float, default=100.0, help="for 99 of 100")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = load.pictures(Path(folder, "pictures"), given.images)
        with serving.server(Path(folder, "data"), "--dataset", str(dataset)) as served:
            times, done, state = asyncio.run(run(served, dataset, given.seconds, given.clients))
    rate = len(times) / given.seconds
    print(f"{len(times)} reads, {rate:.0f} a second; {done} items ended meanwhile, then {state}")
    print(load.milliseconds(times))
    slow = load.part(times, 0.99) * 1e3 > given.most_ms or rate < given.least_rate
    return int(state != "running" or slow)


if __name__ == "__main__":
    sys.exit(main())
