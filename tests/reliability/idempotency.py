"""Many identical submissions at once under each of many keys: one job for each key.

A submission that is refused because the key's first is under way (409) is sent again, as the answer
asks. Exit code 1 if a key has made more or fewer jobs than one, or an answer was another.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.reliability import load, serving
from tests.reliability.submissions import count


async def repeat(
    served: serving.Served, body: bytes, keys: int, posts: int
) -> tuple[Counter[int], list[set[str]]]:
    """How often each status came, and the jobs that each key was answered with."""
    statuses: Counter[int] = Counter()
    found: list[set[str]] = []

    async def one(connection: load.Connection, key: str) -> str:
        while True:
            headers = {"Idempotency-Key": key}
            status, told, content = await connection.ask("POST", load.JOBS, body, headers)
            statuses[status] += 1
            if status != 409:
                return str(json.loads(content).get("id", f"{status}"))
            assert int(told["retry-after"]) >= 1
            await asyncio.sleep(0.02)  # sooner than asked: more of them meet

    for number in range(keys):
        # New ones for each key: the server ends those that lie idle while others still wait.
        connections = [load.Connection(served) for _ in range(posts)]
        asked = (one(connection, f"key-{number}") for connection in connections)
        found.append(set(await asyncio.gather(*asked)))
        for connection in connections:
            connection.close()
    return statuses, found


def main() -> int:
    """Print what came; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--posts", type=int, default=100, help="at once, for each key")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = load.pictures(Path(folder, "pictures"), 1)
        body = load.occlusion(dataset, 16, 1)
        arguments = ["--dataset", str(dataset)]
        with serving.server(Path(folder, "data"), *arguments, settings=load.UNLIMITED) as served:
            statuses, found = asyncio.run(repeat(served, body, given.keys, given.posts))
            jobs = asyncio.run(count(served))
    several = [one for one in found if len(one) != 1]
    print(f"{given.keys} keys, {given.posts} posts at once under each: {jobs} jobs; {statuses}")
    print(f"keys with another number of jobs than one: {len(several)}", *several[:3], sep="\n")
    return int(jobs != given.keys or bool(several) or not set(statuses) <= {202, 409})


if __name__ == "__main__":
    sys.exit(main())
