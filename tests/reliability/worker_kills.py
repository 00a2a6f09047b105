"""kill -9 of workers at random moments: nothing is lost, torn, or committed twice.

The same items are computed undisturbed first; what comes of them must be the same, file by file.
A kill counts as one that interrupted an item where the server says that it lost a unit. Whether a
worker died of its item or was killed cannot be told from outside, so an item of which three
workers were killed is set aside, as it should be; such items are then tried again by retry-failed.
Exit code 1 where a promise was broken.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability import serving
from tests.reliability.ledger import Ledger, audit
from tests.reliability.workload import ask, finish, order, prepare, read, submit, workers


def _lost_units(served: serving.Served) -> int:
    text = ask(served, "GET", "/metrics")[1].decode()
    found = re.search(r"^deconvnet_workers_lost_total (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _undisturbed(folder: Path, settings: dict[str, object]) -> tuple[Ledger, float]:
    started = time.perf_counter()
    with serving.server(folder, settings=settings) as served:
        finish(served, submit(served, order()))
    return audit(folder), time.perf_counter() - started


def _kill_often(
    served: serving.Served, job: str, kills: int, total: int, moments: random.Random
) -> int:
    """Kill workers while the job runs, at least three items apart; how many were killed."""
    spacing = max(4.0, 0.8 * total / kills)
    killed, next_at = 0, 0
    while killed < kills:
        found = read(served, job)
        if found["finished_at"] is not None:
            break
        done = found["counts"]["succeeded"]
        if done < next_at:
            time.sleep(0.01)
            continue
        time.sleep(moments.uniform(0, 0.05))
        running = workers(served)
        if running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(running), signal.SIGKILL)
                killed += 1
                next_at = done + 3 + int(moments.uniform(0, 2 * (spacing - 3)))
    return killed


def main() -> int:
    """Print the row; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work, such as /dev/shm")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        settings = prepare(folder, given.items) | {"workers": given.workers}
        calm, calm_s = _undisturbed(folder / "calm", settings)
        print(f"undisturbed: {len(calm.results)} items in {calm_s:.0f} s")
        started = time.perf_counter()
        with serving.server(folder / "killed", settings=settings) as served:
            job = submit(served, order())
            killed = _kill_often(served, job, given.kills, given.items, random.Random(given.seed))
            found = finish(served, job)
            interrupted = _lost_units(served)
            aside = found["counts"]["failed"]
            if aside:
                ask(served, "POST", f"/jobs/{job}/retry-failed")
                finish(served, job)
        spent = time.perf_counter() - started
        end = audit(folder / "killed")
        left_over = end.unfinished
        serving.start(folder / "killed", settings=settings).process.kill()
        left_after = audit(folder / "killed").unfinished
    same = sorted(calm.results.values()) == sorted(end.results.values())
    by_number = {n: one for (_, n), one in calm.results.items()}
    same = same and by_number == {n: one for (_, n), one in end.results.items()}
    lost = given.items - len(end.results)
    print(
        f"{killed} kills, {interrupted} of them interrupted an item, in {spent:.0f} s: {lost} "
        f"lost, {end.twice} committed twice, {end.torn} torn files, {end.lost} files missing, "
        f"results {'equal' if same else 'DIFFER FROM'} the undisturbed run; {aside} items set "
        f"aside and tried again; {left_over} temporary files left, {left_after} after the next "
        "start"
    )
    kept = lost == 0 and end.sound and same and left_after == 0 and killed == given.kills
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
