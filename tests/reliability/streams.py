"""Many clients follow a job's events, and connections are cut: nothing is missed or told twice.

The lag is from an event's own time, that of its transaction, to when the client has it. Exit code 1
if a stream has a gap, or the lag is too long.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability import load, serving
from tests.reliability.workload import Told


@dataclass
class Follower:
    """One stream: the ids it was told, the lags, how often it was cut."""

    connection: load.Connection
    ids: list[int] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    ended: bool = False

    async def follow(self, job: str) -> None:
        """Read to the end, over as many connections as it takes."""
        while not self.ended:
            try:
                await self._read(job, self.ids[-1] if self.ids else 0)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                self.connection.close()

    async def _read(self, job: str, last: int) -> None:
        path, headers = f"{load.JOBS}/{job}/events", {"Last-Event-ID": str(last)}
        status, _, reader = await self.connection.begin("GET", path, headers=headers)
        assert status == 200, status
        told = Told()
        async for line in self.connection.lines(reader):
            event = told.take(line)
            if event.get("event") == "end":
                self.ended = True
                return
            if "data" in event:
                self.ids.append(int(event["id"]))
                self.lags.append(time.time() - json.loads(event["data"])["at"])


async def run(
    served: serving.Served, dataset: Path, streams: int, cuts: int, seed: int
) -> tuple[list[Follower], int, int]:
    """The followers at the end, the job's last version, and how many streams were cut."""
    moments = random.Random(seed)
    async with load.Connection(served) as connection:
        await load.warm(connection, load.occlusion(dataset, 16, 1))
        job = (await connection.json("POST", load.JOBS, load.occlusion(dataset, 8)))["id"]
        followers = [Follower(load.Connection(served)) for _ in range(streams)]
        following = [asyncio.create_task(one.follow(job)) for one in followers]
        done = 0
        while done < cuts:
            await asyncio.sleep(moments.uniform(0, 0.1))
            going = [one for one in followers if one.ids and not one.ended]
            if not going and all(one.done() for one in following):
                break
            if going:
                moments.choice(going).connection.close()
                done += 1
        await asyncio.gather(*following)
        version = (await connection.json("GET", f"{load.JOBS}/{job}"))["version"]
    return followers, version, done


def main() -> int:
    """Print the figures; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--images", type=int, default=300, help="of the job")
    parser.add_argument("--most-s", type=float, default=1.0, help="lag, for 99 of 100 events")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = load.pictures(Path(folder, "pictures"), given.images)
        with serving.server(Path(folder, "data"), "--dataset", str(dataset)) as served:
            followers, version, cuts = asyncio.run(
                run(served, dataset, given.streams, given.cuts, given.seed)
            )
    whole = list(range(1, version + 1))
    broken = [one for one in followers if one.ids != whole]
    lags = [lag for one in followers for lag in one.lags]
    print(f"{given.streams} streams of {version} events, {cuts} cut: {len(broken)} with gaps")
    print(f"lag: {load.milliseconds(lags)}")
    return int(bool(broken) or cuts < given.cuts or load.part(lags, 0.99) > given.most_s)


if __name__ == "__main__":
    sys.exit(main())
