"""Durable submissions at a steady rate: how long each takes, and that each survives a kill -9.

Submissions are sent when they are due, whether or not earlier ones have been answered; an answer's
time counts from then. Exit code 1 if one was refused or lost, or a figure was not reached.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability import load, serving


async def submit(
    served: serving.Served, body: bytes, rate: float, seconds: float, clients: int
) -> tuple[list[float], list[int], float]:
    """Seconds and status of each, and how many were answered a second."""
    free: asyncio.LifoQueue[load.Connection] = asyncio.LifoQueue()
    for _ in range(clients):
        free.put_nowait(load.Connection(served))
    times: list[float] = []
    statuses: list[int] = []

    async def one(due: float) -> None:
        connection = await free.get()
        status, _, _ = await connection.ask("POST", load.JOBS, body)
        times.append(time.perf_counter() - due)
        statuses.append(status)
        free.put_nowait(connection)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    spent = time.perf_counter() - began
    while not free.empty():
        free.get_nowait().close()
    return times, statuses, len(times) / spent


async def count(served: serving.Served) -> int:
    """How many jobs there are."""
    async with load.Connection(served) as connection:
        jobs, cursor = 0, ""
        while True:
            page = await connection.json("GET", f"{load.JOBS}?limit=1000{cursor}")
            jobs += len(page["items"])
            if page["next_cursor"] is None:
                return jobs
            cursor = f"&cursor={page['next_cursor']}"


async def prepare(served: serving.Served, body: bytes) -> None:
    """A first job, until it has ended."""
    async with load.Connection(served) as connection:
        await load.warm(connection, body)


def main() -> int:
    """Print the figures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=60.0, help="submissions due a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=32, help="connections at most")
    parser.add_argument("--least-rate", type=float, default=50.0)
    parser.add_argument("--most-ms", type=float, default=150.0, help="for 99 of 100")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, dataset = Path(folder, "data"), load.pictures(Path(folder, "pictures"), 1)
        body = load.occlusion(dataset, 16, 1)
        arguments = ["--dataset", str(dataset)]
        with serving.server(data, *arguments, settings=load.UNLIMITED) as served:
            asyncio.run(prepare(served, body))
            times, statuses, rate = asyncio.run(
                submit(served, body, given.rate, given.seconds, given.clients)
            )
        with serving.server(data, *arguments, settings=load.UNLIMITED) as served:  # after kill -9
            kept = asyncio.run(count(served)) - 1
    accepted = statuses.count(202)
    print(
        f"{accepted} of {len(statuses)} accepted, {kept} there after kill -9; {rate:.1f} a second"
    )
    print(load.milliseconds(times))
    slow = load.part(times, 0.99) * 1e3 > given.most_ms or rate < given.least_rate
    return int(accepted < len(statuses) or kept != accepted or slow)


if __name__ == "__main__":
    sys.exit(main())
