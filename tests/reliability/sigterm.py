"""SIGTERM while uploads, pages and a job are under way: exit code 0, and soon, every time.

Exit code 1 if a server ended otherwise, took longer than its limit, or left an item that was not at
its end claimed or with an attempt spent.
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
from pathlib import Path

from PIL import Image

from tests.reliability import serving


def _picture(seed: int) -> bytes:
    colour = tuple(random.Random(seed).randbytes(3))
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").point(lambda v: v ^ colour[0]).save(buffer, "PNG")
    return buffer.getvalue()


def _ask(served: serving.Served, method: str, path: str, body: bytes, kind: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, {**served.bearer, "Content-Type": kind})
        return connection.getresponse().read()


def _upload(served: serving.Served, seed: int) -> str:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    body = head + _picture(seed) + b"\r\n--b--\r\n"
    found = _ask(served, "POST", "/api/v1/images", body, "multipart/form-data; boundary=b")
    return str(json.loads(found)["id"])


def _submit(served: serving.Served, images: list[str]) -> None:
    job = {
        "model": "zfnet64",
        "method": "occlusion",
        "params": {"size": 16, "stride": 4},
        "inputs": {"images": [{"id": one} for one in images]},
    }
    _ask(served, "POST", "/api/v1/jobs", json.dumps(job).encode(), "application/json")


def _keep_asking(served: serving.Served, client: int, ended: threading.Event) -> None:
    for number in range(10_000):
        if ended.is_set():
            return
        # A server that is ending refuses connections and drops some: that is its right.
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
            if number % 3:
                _ask(served, "GET", ("/jobs", "/api/v1/models")[number % 2], b"", "text/plain")
            else:
                _submit(served, [_upload(served, client * 10_000 + number)])


def once(folder: Path, clients: int, delay_s: float) -> tuple[int | None, float]:
    """Exit code (None: it had to be killed) and seconds from SIGTERM to the end."""
    settings: dict[str, object] = {"submissions": 100_000, "uploads": 100_000}
    with serving.server(folder, settings=settings) as served:
        ended = threading.Event()
        asking = [
            threading.Thread(target=_keep_asking, args=(served, client, ended))
            for client in range(clients)
        ]
        for thread in asking:
            thread.start()
        time.sleep(delay_s)
        started = time.perf_counter()
        served.process.terminate()
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = served.process.wait(60)
        spent = time.perf_counter() - started
        ended.set()
        for thread in asking:
            thread.join()
        if code != 0:
            print("".join(served.log[-20:]))
    return code, spent


def wronged(folder: Path) -> tuple[int, int]:
    """Of the items in a database that no server has: those that ended, and those that lost by it.

    No image of this script ends a worker, so one attempt is spent on each item that has ended.
    """
    with contextlib.closing(sqlite3.connect(folder / "deconvnet.sqlite")) as database:
        ended = "state IN ('succeeded', 'failed')"
        (items,) = database.execute(f"SELECT count(*) FROM items WHERE {ended}").fetchone()
        lost = f"state = 'running' OR spent <> CASE WHEN {ended} THEN 1 ELSE 0 END"
        (wrong,) = database.execute(f"SELECT count(*) FROM items WHERE {lost}").fetchone()
    return int(items), int(wrong)


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--most-s", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of SIGTERM")
    given = parser.parse_args()
    moments = random.Random(given.seed)
    found, wrong = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.runs):
            delay = moments.choice((0.0, moments.uniform(0, 1), moments.uniform(0, 8)))
            # Ten servers, one after the other, share a directory and its unfinished jobs.
            place = Path(folder, str(number // 10))
            found.append(once(place, given.clients, delay))
            code, spent = found[-1]
            items, lost = wronged(place)
            wrong += lost
            print(
                f"run {number}: SIGTERM after {delay:.2f} s, code {code} in {spent:.1f} s; "
                f"{items} items at their end so far, {lost} wronged"
            )
    good = [spent for code, spent in found if code == 0 and spent <= given.most_s]
    times = sorted(spent for _, spent in found)
    middle, last = times[len(times) // 2], times[-1]
    print(
        f"{len(good)} of {given.runs} exit 0; median {middle:.1f} s, longest {last:.1f} s; "
        f"{wrong} items claimed for ever or with an attempt spent by it"
    )
    return int(len(good) < given.runs or wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
