"""What the scripts that load a server share: small pictures, lean connections, percentiles.

The clients run beside the server on the same cores, so they speak HTTP by hand: a full client costs
as much as the server's whole answer.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from tests.reliability import serving

LARGE = 10**6
UNLIMITED: dict[str, object] = {"submissions": LARGE, "uploads": LARGE, "queued_jobs": LARGE}
JOBS = "/api/v1/jobs"
ENDS = ("succeeded", "failed", "cancelled", "expired")


def pictures(folder: Path, count: int) -> Path:
    """So many different pictures of 64×64."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number:05d}.png")
    return folder


def occlusion(dataset: Path, stride: int, limit: int | None = None) -> bytes:
    """A job's body: about 0.1 s of a worker for each picture at stride 8."""
    inputs = {"dataset": dataset.name, "limit": limit}
    return json.dumps(
        {
            "model": "zfnet64",
            "method": "occlusion",
            "params": {"size": 16, "stride": stride},
            "inputs": inputs,
        }
    ).encode()


def part(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def milliseconds(values: Sequence[float]) -> str:
    """The usual three, of seconds."""
    shown = (f"p{int(share * 100)} {part(values, share) * 1e3:.1f}" for share in (0.5, 0.99))
    return f"{', '.join(shown)}, longest {max(values) * 1e3:.1f} ms"


@dataclass(frozen=True)
class Elsewhere:
    """A server that another process has started."""

    port: int
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        """The header that lets in."""
        return {"Authorization": f"Bearer {self.token}"}


class Connection:
    """One kept connection to a server; a request at a time."""

    def __init__(self, served: serving.Served | Elsewhere) -> None:
        self._served = served
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut it; the next request makes another."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def begin(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], asyncio.StreamReader]:
        """Send a request: the answer's status and headers, and where its body is read."""
        if self._reader is not None and self._reader.at_eof():
            self.close()  # an idle connection is ended by the server
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._served.port
            )
        given = {
            "Host": "127.0.0.1",
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            **self._served.bearer,
            **(headers or {}),
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {one}" for key, one in given.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        told = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split(" ")[1]), told, self._reader

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request: the whole answer."""
        status, told, reader = await self.begin(method, path, body, headers)
        content = await reader.readexactly(int(told.get("content-length", "0")))
        if told.get("connection") == "close":
            self.close()
        return status, told, content

    async def json(self, method: str, path: str, body: bytes = b"") -> Any:
        """The answer of a request that succeeds."""
        status, _, content = await self.ask(method, path, body)
        assert status < 400, f"{method} {path}: {status} {content!r}"
        return json.loads(content)

    async def lines(self, reader: asyncio.StreamReader) -> AsyncIterator[str]:
        """The lines of an answer that is sent in chunks, as they come."""
        rest = b""
        while size := int(await reader.readline(), 16):
            *whole, rest = (rest + (await reader.readexactly(size + 2))[:-2]).split(b"\r\n")
            for line in whole:
                yield line.decode()


async def warm(connection: Connection, body: bytes) -> None:
    """Have a job done, so that the worker has its network."""
    await ended(connection, (await connection.json("POST", JOBS, body))["id"])


async def ended(connection: Connection, job: str) -> Any:
    """The job once it is at its end."""
    while (found := await connection.json("GET", f"{JOBS}/{job}"))["state"] not in ENDS:
        await asyncio.sleep(0.1)
    return found
