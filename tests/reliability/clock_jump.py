"""The time of day jumps by days, ahead and back, while a server works: nothing of it is believed.

A library loaded before the C library (`clock_jump.c`, compiled here) moves the time of day of the
server and its workers; clocks that do not jump go on. A job with a deadline runs all the while and
is followed as it goes, over a server that keeps what has ended for an hour only. After each jump:
what had ended before is there, the job goes on, a wait for another job takes its seconds, the
browser's session and a new link sign in, and who had used up a minute's uploads is told to wait for
no more than a minute. In the end every item was computed once. Exit code 1 where one of that
fails, 0 with a word where there is no C compiler.
"""

import argparse
import contextlib
import http.client
import json
import os
import sqlite3
import struct
import sys
import tempfile
import threading
import time
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

from deconvnet_app.access import Access
from tests.reliability import serving
from tests.reliability.ledger import audit
from tests.reliability.preload import compiled
from tests.reliability.workload import Told, ask, finish, order, prepare, read, submit, upload

DAY_S = 86_400
JUMPS = (DAY_S, -DAY_S, 0)  # what is then added to the time of day
UPLOADS = 3  # a minute
BEFORE = 2  # items of the job that ends before the first jump
TIMEOUT_S = 600
PATIENCE_S = 120

# The janitor looks often, so that it has looked after every jump.
_TIDY = "import deconvnet_app.jobs.janitor as j; j.ROUND_S = 0.2\n"

# The worker computes as many items as a file says, and waits with the next one.
_GATE = """        global seen
        while seen >= int(pathlib.Path(__file__).with_name("gate").read_text() or 0):
            time.sleep(0.01)
        seen += 1
        return super().crop(image)
"""


def _gated(network: Path) -> Path:
    text = network.read_text().replace("        return super().crop(image)\n", _GATE)
    network.write_text(f"import pathlib, time\nseen = 0\n{text}")
    gate = network.with_name("gate")
    gate.write_text(str(BEFORE))
    return gate


class Follower(threading.Thread):
    """Reads a job's events to their end.

    Attributes:
        ids: of the events, as they came.
        ended: the last one was the story's end.
    """

    def __init__(self, served: serving.Served, job: str) -> None:
        super().__init__(daemon=True)
        self._served, self._path = served, f"/api/v1/jobs/{job}/events"
        self.ids: list[int] = []
        self.ended = False

    def run(self) -> None:
        """Until the end, or until the server has nothing more to say for two minutes."""
        port = self._served.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", self._path, headers=self._served.bearer)
            told = Told()
            for line in connection.getresponse():
                event = told.take(line.decode().rstrip("\r\n"))
                if event.get("event") == "end":
                    self.ended = True
                    return
                if "data" in event:
                    self.ids.append(int(event["id"]))


class Trial:
    """One server whose clock jumps.

    Attributes:
        wrong: what broke a promise.
    """

    def __init__(self, served: serving.Served, data: Path, clock: Path, gate: Path) -> None:
        self.served, self._data, self._clock, self._gate = served, data, clock, gate
        self.wrong: list[str] = []
        self._when, self._waiting = "", [submit(served, order(limit=BEFORE, glob="*0.png"))]
        finish(served, self._waiting[0], PATIENCE_S)
        self._cookie = self._sign_in(served.link)
        for number in range(UPLOADS):
            upload(served, str(number).encode())  # no pictures, but they count
        self._running, self._allowed = submit(served, order() | {"timeout_s": TIMEOUT_S}), 0
        self.follower = Follower(served, self._running)
        self.follower.start()

    def jump(self, offset: int, items: int) -> None:
        """Let the clock jump in the middle of so many items, and ask for all that time changes."""
        self._when = f"at {offset:+d} s"
        done = self._let(items // 2)
        with self._clock.open("r+b") as clock:  # never shorter: it is mapped
            clock.write(struct.pack("q", offset))
        time.sleep(0.5)  # the janitor looks
        self._before_is_there()
        self._wait_takes_its_time()
        self._signed_in(offset)
        self._rates_hold()
        self._expect(self._let(items - items // 2) > done, "the job does not go on")

    def end(self) -> None:
        """Everything comes to its end as if nothing had happened."""
        self._when = "in the end"
        self._gate.write_text("1000000")
        for job in [self._running, *self._waiting]:
            if "state" not in read(self.served, job):
                self._expect(False, "a job is gone")
                continue
            found = finish(self.served, job, PATIENCE_S)
            told = f"a job is {found['state']} with {found['counts']}"
            self._expect(found["counts"]["succeeded"] == found["counts"]["total"], told)
        self.follower.join(PATIENCE_S)
        version = read(self.served, self._running).get("version", 0)
        whole = self.follower.ended and self.follower.ids == list(range(1, version + 1))
        self._expect(whole, "the job's events have a gap, or no end")

    def _expect(self, met: bool, what: str) -> None:
        if not met:
            self.wrong.append(f"{self._when}: {what}")

    def _let(self, items: int) -> int:
        """Have so many more items computed; how many of the job are done then."""
        self._allowed += items
        self._gate.write_text(str(BEFORE + self._allowed))
        until = time.monotonic() + PATIENCE_S
        done = 0
        while done < self._allowed and time.monotonic() < until:
            time.sleep(0.02)
            done = read(self.served, self._running).get("counts", {}).get("succeeded", 0)
        return done

    def _before_is_there(self) -> None:
        status, answer = ask(self.served, "GET", f"/jobs/{self._waiting[0]}/items/0")
        self._expect(status == http.client.OK, f"a job from before is answered {status}")
        for path in json.loads(answer).get("pictures", {}).values():
            status, _ = self._open(path, **self.served.bearer)
            self._expect(status == http.client.OK, f"its picture is answered {status}")
        state = read(self.served, self._running).get("state")
        self._expect(state == "running", f"the job is {state}")

    def _wait_takes_its_time(self) -> None:
        """A job that is submitted now waits for the one that runs."""
        started = time.monotonic()
        status, answer = ask(self.served, "POST", "/jobs", order(limit=3), Prefer="wait=1")
        took = time.monotonic() - started
        ended = status == http.client.OK
        self._expect(not ended and 0.9 < took < PATIENCE_S / 4, f"a wait of 1 s took {took:.1f} s")
        self._waiting.append(json.loads(answer)["id"])

    def _signed_in(self, offset: int) -> None:
        status, _ = self._open("/", Cookie=self._cookie)
        self._expect(status == http.client.OK, f"the session is answered {status}")
        code = Access(self._data).mint()
        newest = max((self._data / "links").iterdir(), key=lambda path: path.stat().st_ctime)
        os.utime(newest, (time.time() + offset,) * 2)  # as `deconvnet link` would make it now
        self._expect(bool(self._sign_in(f"/login?code={code}")), "a new link does not sign in")

    def _rates_hold(self) -> None:
        status, headers = self._open("/api/v1/images", "POST", **self.served.bearer)
        wait = int(headers.get("Retry-After", "0"))
        told = f"uploads past their rate are answered {status}, to come back after {wait} s"
        self._expect(status == http.client.TOO_MANY_REQUESTS and 1 <= wait <= 60, told)

    def _sign_in(self, link: str) -> str:
        found = urlsplit(link)
        _, headers = self._open(f"{found.path}?{found.query}")
        return headers.get("Set-Cookie", "").partition(";")[0]

    def _open(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Message]:
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers


def _most_attempts(data: Path) -> int:
    with contextlib.closing(sqlite3.connect(data / "deconvnet.sqlite")) as connection:
        return int(connection.execute("SELECT max(attempt) FROM items").fetchone()[0])


def main() -> int:
    """Print the row; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=600, help="of the job, 20 or more")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, data, clock = Path(place), Path(place, "data"), Path(place, "clock")
        library = compiled(folder, "clock_jump")
        if library is None:
            print("There is no C compiler here: nothing was tried.")
            return 0
        clock.write_bytes(bytes(8))
        settings = prepare(folder, given.pictures) | {"uploads": UPLOADS, "retention_s": 3600}
        gate = _gated(folder / "network.py")
        served = serving.start(
            data, code=_TIDY + serving.COMMAND, settings=settings,
            variables={"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(clock)},
        )  # fmt: skip
        try:
            trial = Trial(served, data, clock, gate)
            for offset in JUMPS:
                trial.jump(offset, given.pictures // (len(JUMPS) + 1))
            trial.end()
            served.process.terminate()
            code = served.process.wait(60)
        finally:
            served.process.kill()
            served.process.wait()
        end, attempts = audit(data), _most_attempts(data)
    print("\n".join(trial.wrong), end="\n" * bool(trial.wrong))
    print(
        f"{len(JUMPS)} jumps during {given.pictures} items: {len(trial.wrong)} promises broken, "
        f"{attempts} attempts of an item at most, {len(trial.follower.ids)} events followed, exit "
        f"code {code}; {end.twice} items committed twice, {end.torn} torn files, {end.lost} files "
        f"missing, integrity_check {end.integrity}"
    )
    return int(bool(trial.wrong) or code != 0 or attempts != 1 or not end.sound)


if __name__ == "__main__":
    sys.exit(main())
