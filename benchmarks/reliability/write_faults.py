"""Every Nth write, sync, rename and truncation below the data directory fails, for every N.

A library loaded before the C library (`write_faults.c`, compiled here) makes them fail in the
server, in SQLite and in the workers: once, or from the Nth on until there is room again. Each time
a picture is uploaded and a job computes it. What is answered must be an acceptance or 507; what was
accepted must come to its end once the disk takes writes again, and the data directory must be
whole. N rises until nothing fails. Exit code 1 where a promise was broken, 0 with a word where
there is no C compiler.
"""

import argparse
import errno
import io
import json
import mmap
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import serving
from ledger import audit
from PIL import Image
from workload import ask, finish, order, prepare, upload

FOREVER = 1 << 60
REFUSED = 507


class Faults:
    """The state that the library shares with us."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(bytes(32))
        with file.open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), 32)

    def arm(self, first: int, last: int, error: int) -> None:
        """Count anew; the calls from `first` to `last` fail."""
        self._map[:] = struct.pack("4q", 0, first, last, error)

    def disarm(self) -> int:
        """Nothing fails any more; how many calls there were."""
        count = int(struct.unpack_from("q", self._map)[0])
        self._map[8:24] = bytes(16)
        return count


def _picture(seed: str) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (8, 8), random.Random(seed).randbytes(192)).save(buffer, "PNG")
    return buffer.getvalue()


class Trial:
    """One server on a disk that can be made to fail.

    Attributes:
        refused: how many answers were 507.
        wrong: what broke a promise.
    """

    def __init__(self, served: serving.Served, faults: Faults) -> None:
        self.served, self.faults = served, faults
        self.refused = 0
        self.wrong: list[str] = []

    def run(self, first: int, error: int, *, lasting: bool) -> bool:
        """One picture and one job; whether the first fault was reached."""
        what = f"{errno.errorcode[error]} {'from' if lasting else 'at'} call {first}"
        picture = _picture(what)
        last = FOREVER if lasting else first
        self.faults.arm(first, last, error)
        status, answer = self._stored(what, upload(self.served, picture))
        reached = status == REFUSED
        if reached:
            self.faults.disarm()
            status, answer = upload(self.served, picture)
            self.faults.arm(1, FOREVER if lasting else 0, error)
        image = json.loads(answer)["id"]
        body = order() | {"inputs": {"images": [{"id": image}]}}
        status, answer = self._stored(what, ask(self.served, "POST", "/jobs", body))
        if status == REFUSED:
            reached = True
            self.faults.disarm()
            status, answer = ask(self.served, "POST", "/jobs", body)
        if lasting:
            time.sleep(0.5)
            reached |= self.faults.disarm() >= first
        state = finish(self.served, json.loads(answer)["id"], 120)["state"]
        reached |= self.faults.disarm() >= first
        if state != "succeeded":
            self.wrong.append(f"{what}: the job ended as {state}")
        return reached

    def _stored(self, what: str, answer: tuple[int, bytes]) -> tuple[int, bytes]:
        if answer[0] == REFUSED:
            self.refused += 1
        elif answer[0] not in (200, 201, 202):
            self.wrong.append(f"{what}: answered {answer[0]}: {answer[1].decode()}")
        return answer


def _compiled(folder: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "write_faults.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def main() -> int:
    """Print the row; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="*", help="these N; else every one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), Path(name, "data")
        library = _compiled(folder)
        if library is None:
            print("There is no C compiler here: nothing was tried.")
            return 0
        faults = Faults(folder / "state")
        variables = {
            "LD_PRELOAD": str(library),
            "FAULTS_STATE": str(folder / "state"),
            "FAULTS_BELOW": f"{data}/",
        }
        settings = prepare(folder, 1)
        served = serving.start(data, settings=settings, variables=variables)
        trial, tried = Trial(served, faults), 0
        for error in (errno.ENOSPC, errno.EIO):
            for lasting in (False, True):
                for first in given.only or range(1, 10_000):
                    tried += 1
                    if not trial.run(first, error, lasting=lasting):
                        break
        served.process.terminate()
        served.process.wait()
        end = audit(data)
    print("\n".join(trial.wrong[:20]), end="\n" * bool(trial.wrong))
    print(
        f"{tried} faults: {trial.refused} answers 507, {len(trial.wrong)} promises broken; "
        f"{end.torn} torn files, {end.lost} files missing, {end.twice} items committed twice, "
        f"integrity_check {end.integrity}, {end.unfinished} temporary files left"
    )
    return int(bool(trial.wrong) or not end.sound)


if __name__ == "__main__":
    sys.exit(main())
