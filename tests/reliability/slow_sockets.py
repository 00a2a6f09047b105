"""Clients that send a byte now and then: closed in time, while others are answered as ever.

Six ways of being slow, in turn, on as many sockets as asked for; besides them, a new client asks
/livez again and again. Exit code 1 if a socket outlived its limit.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.reliability import serving

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
PAUSE_S = 0.5


async def _drip(text: bytes) -> AsyncIterator[bytes]:
    """One byte at a time, for ever."""
    while True:
        for byte in text:
            yield bytes([byte])
            await asyncio.sleep(PAUSE_S)


async def _after(first: bytes, drops: bytes = b"") -> AsyncIterator[bytes]:
    """Something at once, and then drops, or nothing."""
    yield first
    if drops:
        async for drop in _drip(drops):
            yield drop


def _post(token: str) -> bytes:
    return (
        "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: 100000\r\n\r\n"
    ).encode()


def kinds(token: str) -> dict[str, Callable[[], AsyncIterator[bytes]]]:
    """Ways of being slow; each gives what a client sends, and when."""
    return {
        "sends nothing": lambda: _after(b""),
        "drips a head": lambda: _after(LIVEZ, b"X-Slow: 1\r\n"),
        "drips a body": lambda: _after(_post(token), b" "),
        "drips a refused body": lambda: _after(_post("none"), b" "),
        "idles after an answer": lambda: _after(LIVEZ + b"\r\n"),
        "drips a second head": lambda: _after(LIVEZ + b"\r\n" + LIVEZ, b"X-Slow: 1\r\n"),
    }


async def _linger(port: int, sending: AsyncIterator[bytes], most_s: float) -> float:
    """Seconds until the server closes, up to `most_s`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()

    async def send() -> None:
        async for part in sending:
            writer.write(part)
            await writer.drain()

    async def read() -> None:
        while await reader.read(65536):
            pass

    sender = asyncio.create_task(send())
    try:
        async with asyncio.timeout(most_s):
            await read()
    except (TimeoutError, ConnectionError):
        pass
    spent = time.perf_counter() - started
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    writer.close()
    return spent


async def _ask(port: int, until: asyncio.Event) -> list[float]:
    """Seconds that each /livez took, each on a new connection."""
    took = []
    while not until.is_set():
        started = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LIVEZ + b"Connection: close\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200"), answer
        took.append(time.perf_counter() - started)
        writer.close()
        await asyncio.sleep(0.02)
    return took


async def measure(
    port: int, token: str, sockets: int, most_s: float
) -> tuple[dict[str, list[float]], list[float]]:
    """Lifetimes of the slow sockets by kind, and times of /livez, in seconds."""
    ways = list(kinds(token).items())
    done = asyncio.Event()
    asking = asyncio.create_task(_ask(port, done))
    lives: dict[str, list[float]] = defaultdict(list)

    async def one(number: int) -> None:
        name, make = ways[number % len(ways)]
        lives[name].append(await _linger(port, make(), most_s + 5))

    await asyncio.gather(*(one(number) for number in range(sockets)))
    done.set()
    return lives, await asking


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--receive-s", type=float, default=10.0, help="the server's setting")
    parser.add_argument("--most-s", type=float, default=15.0, help="that a socket may live")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, object] = {"receive_s": given.receive_s}
        with serving.server(Path(folder), settings=settings) as served:
            lives, took = asyncio.run(
                measure(served.port, served.token, given.sockets, given.most_s)
            )
    print(f"{'client':<24}{'sockets':>8}{'first':>8}{'last closed, s':>16}")
    for name, spent in sorted(lives.items()):
        print(f"{name:<24}{len(spent):>8}{min(spent):>8.1f}{max(spent):>16.1f}")
    took.sort()
    p50, p99 = (took[int(share * (len(took) - 1))] * 1000 for share in (0.5, 0.99))
    print(f"/livez meanwhile: {len(took)} asked, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return int(max(map(max, lives.values())) > given.most_s)


if __name__ == "__main__":
    sys.exit(main())
