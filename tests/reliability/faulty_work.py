"""A server at work on a failing disk: a picture is uploaded and a job computes it."""

import http.client
import io
import json
import random
import time
from pathlib import Path

from PIL import Image

from tests.reliability import serving
from tests.reliability.disk import Disk, Fault
from tests.reliability.ledger import audit
from tests.reliability.workload import ask, finish, order, prepare, upload

REFUSED = 507

# Waits for room are shortened: what happens after them is the same.
_HASTY = "import deconvnet_app.jobs.coordinator as c; c.FULL_PAUSE_S = c.MOST_PATIENCE_S = 0.3\n"


def _picture(seed: str) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (8, 8), random.Random(seed).randbytes(192)).save(buffer, "PNG")
    return buffer.getvalue()


class Work:
    """One server for all faults; a new one on new data after one that broke a promise.

    What is answered must be an acceptance or 507; what was accepted must come to its end once the
    disk takes writes again; the data directory must be whole in the end.

    Attributes:
        refused: how many answers were 507.
    """

    def __init__(self, disk: Disk, folder: Path, data: Path, most_s: float) -> None:
        self._disk, self._data, self._most_s = disk, data, most_s
        self._settings = prepare(folder, 1)
        self._served: serving.Served | None = None
        self._runs = 0
        self.refused = 0

    def count(self) -> int:
        """The calls of one run that nothing disturbs."""
        self._disk.arm(0, 0, 0)
        self._run("undisturbed", Fault(0, 0, lasting=False))
        return self._disk.disarm()

    def run(self, fault: Fault) -> bool:
        """One picture and one job; whether the fault was reached.

        Raises:
            RuntimeError, TimeoutError, OSError: a promise was broken.
        """
        self._runs += 1
        try:
            return self._run(f"{fault} {self._runs}", fault)
        except BaseException:
            self.close()
            raise

    def _server(self) -> serving.Served:
        if self._served is None:
            self._served = serving.start(
                self._data, code=_HASTY + serving.COMMAND, settings=self._settings,
                variables=self._disk.variables,
            )  # fmt: skip
        return self._served

    def _run(self, seed: str, fault: Fault) -> bool:
        served, picture = self._server(), _picture(seed)
        self._disk.arm(fault.first, fault.last, fault.error)
        status, answer = upload(served, picture)
        reached = self._is_refusal(status, answer)
        if reached:
            self._disk.disarm()
            status, answer = upload(served, picture)
            self._disk.arm(1, fault.last if fault.lasting else 0, fault.error)
        body = order() | {"inputs": {"images": [{"id": json.loads(answer)["id"]}]}}
        status, answer = ask(served, "POST", "/jobs", body)
        if self._is_refusal(status, answer):
            reached = True
            self._disk.disarm()
            status, answer = ask(served, "POST", "/jobs", body)
        if fault.lasting:
            time.sleep(0.5)
            reached |= self._disk.disarm() >= fault.first
        found = finish(served, json.loads(answer)["id"], self._most_s)
        reached |= self._disk.disarm() >= fault.first
        if found["state"] != "succeeded":
            raise RuntimeError(f"the job ended as {found['state']}: {found['error']}")
        return reached

    def _is_refusal(self, status: int, answer: bytes) -> bool:
        if status == REFUSED:
            self.refused += 1
            return True
        if status not in (http.client.OK, http.client.CREATED, http.client.ACCEPTED):
            raise RuntimeError(f"answered {status}: {answer.decode()}")
        return False

    def close(self) -> None:
        """End the server; the data must be whole once another one has started and ended there.

        Raises:
            RuntimeError: they are not.
        """
        served, self._served = self._served, None
        if served is None:
            return
        self._disk.disarm()
        _end(served)
        _end(serving.start(self._data, settings=self._settings))
        end = audit(self._data)
        if not end.sound or end.unfinished:
            raise RuntimeError(
                f"the data are not whole: {end.twice} items committed twice, {end.torn} torn "
                f"files, {end.lost} missing, {end.unfinished} temporary, {end.miscounted} jobs "
                f"miscounted, integrity_check {end.integrity}"
            )


def _end(served: serving.Served) -> None:
    try:
        served.process.terminate()
        served.process.wait(60)
    finally:
        served.process.kill()
        served.process.wait()
