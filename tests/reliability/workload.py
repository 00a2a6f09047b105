"""Small work for a server: a network of a user's own, many small pictures, a plain client."""

import contextlib
import http.client
import json
import random
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tests.reliability import serving

# Some pictures end the process that looks at them, as broken native code does: a red corner by a
# segmentation fault, a green one by leaving at once, a blue one by a signal.
NETWORK = """
import ctypes, os, signal
from torch import nn
from deconvnet.data.preprocess import Preprocess

class Fatal(Preprocess):
    def crop(self, image):
        corner = image.convert("RGB").getpixel((0, 0))
        if corner == (255, 0, 0):
            ctypes.string_at(0)
        if corner == (0, 255, 0):
            os._exit(3)
        if corner == (0, 0, 255):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().crop(image)

INPUT_SIZE = (3, 8, 8)
LANDMARKS = {"conv1": "1", "conv2": "4"}
PREPROCESS = Fatal((8, 8))

def build():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1),
        nn.ReLU(), nn.Flatten(), nn.Linear(64, 3),
    )
"""

OPEN = ("/livez", "/readyz", "/metrics")  # not below /api/v1
FATAL = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def prepare(folder: Path, pictures: int, fatal: tuple[int, ...] = ()) -> dict[str, object]:
    """Write the network and a dataset; the settings that a server needs for them.

    Args:
        pictures: how many there are, all different.
        fatal: which of them, by number, end the process that looks at them.
    """
    network = folder / "network.py"
    network.write_text(NETWORK)
    dataset = folder / "pictures"
    dataset.mkdir(parents=True)
    for number in range(pictures):
        picture = Image.frombytes("RGB", (8, 8), random.Random(number).randbytes(192))
        corner = FATAL[number % 3] if number in fatal else (9, 9, 9)
        picture.putpixel((0, 0), corner)
        picture.save(dataset / f"{number:06d}.png")
    return {
        "models": {"small": f"{network}:build"},
        "datasets": {"pictures": str(dataset)},
        "device": "cpu",
        "submissions": 1_000_000,
        "uploads": 1_000_000,
    }


class Told:
    """A stream of events, line by line."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def take(self, line: str) -> dict[str, str]:
        """An event's fields, by name, at the empty line that ends it; else none."""
        name, _, value = line.partition(": ")
        if name:
            self._fields[name] = value
            return {}
        told, self._fields = self._fields, {}
        return told


def ask(
    served: serving.Served, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, bytes]:
    """Status and body of one answer; raises OSError or HTTPException where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    sent = {**served.bearer, **headers}
    data: bytes | None = None
    if isinstance(body, bytes):
        data = body
    elif body is not None:
        data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
    with contextlib.closing(connection):
        connection.request(method, path if path in OPEN else f"/api/v1{path}", data, sent)
        answer = connection.getresponse()
        return answer.status, answer.read()


def order(limit: int | None = None, glob: str = "**") -> dict[str, Any]:
    """The body of a job over the dataset's first pictures."""
    inputs: dict[str, object] = {"dataset": "pictures", "glob": glob}
    if limit is not None:
        inputs["limit"] = limit
    return {
        "model": "small",
        "method": "deconv",
        "target": {"unit": "conv2:1"},
        "inputs": inputs,
    }


def upload(served: serving.Served, picture: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to an upload."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    body = head + picture + b"\r\n--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    return ask(served, "POST", "/images", body, **{"Content-Type": kind})


def submit(served: serving.Served, body: dict[str, Any]) -> str:
    """Submit a job; its id."""
    status, answer = ask(served, "POST", "/jobs", body)
    if status != http.client.ACCEPTED:
        raise RuntimeError(f"The job was answered {status}: {answer.decode()}")
    return str(json.loads(answer)["id"])


def read(served: serving.Served, job: str) -> dict[str, Any]:
    """A job as it stands."""
    return dict(json.loads(ask(served, "GET", f"/jobs/{job}")[1]))


def finish(served: serving.Served, job: str, most_s: float = 3600) -> dict[str, Any]:
    """The job at its end; raises TimeoutError."""
    until = time.monotonic() + most_s
    while time.monotonic() < until:
        found = read(served, job)
        if found["finished_at"] is not None:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"Job {job} is not done after {most_s:g} s: {found}")


def workers(served: serving.Served) -> list[int]:
    """The process ids of the compute workers: what the fork server has forked."""
    found = []
    for pid in _children(served.process.pid):
        with contextlib.suppress(OSError):
            if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found += _children(pid)
    return found


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = _children(pid)
    for child in list(found):
        found += descendants(child)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs, or could."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def _children(pid: int) -> list[int]:
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(one) for one in listed.read_text().split()]
    return found
