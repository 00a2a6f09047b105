"""Clients that keep the server waiting are cut off; those that are merely large are not."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from deconvnet_app.http.problems import Problem
from deconvnet_app.http.protocol import punctual
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings

POSTING = {
    "type": "http",
    "method": "POST",
    "path": "/api/v1/jobs",
    "query_string": b"",
    "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
}


def test_a_body_that_stops_is_answered_with_408(tiny_settings: Callable[..., Settings]) -> None:
    app = create_app(tiny_settings(receive_s=0.2))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not sent:
            await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as thread:  # a browser's tests leave a loop in this one
        thread.submit(asyncio.run, app(dict(POSTING), receive, send)).result()
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"too_slow" in sent[1]["body"]


def test_a_body_slower_than_the_rate_is_refused(tiny_settings: Callable[..., Settings]) -> None:
    app = create_app(tiny_settings(receive_s=0.2, receive_rate=1000))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}  # 50 bytes a second

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, app(dict(POSTING), receive, send)).result(20)
    assert sent[0]["status"] == 408
    assert b"1000 bytes a second" in sent[1]["body"]


# Starlette leaves the file of a part without an end to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "parts",
    [
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 100_000 + b"--b--\r\n",
        b"--b\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n1\r\n--b--\r\n",
        b"--b\r\n" + b"X-Many: 1\r\n" * 1000 + b"\r\n1\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n1',
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
        + b"1" * 200_000
        + b"\r\n--b--\r\n",
    ],
    ids=["100,000 parts", "a long header", "many headers", "no closing boundary", "a long field"],
)
def test_a_form_out_of_all_measure_is_refused(client: TestClient, parts: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for url in ("/api/v1/images", "/jobs", "/occlusion"):
        answer = client.post(url, content=parts, headers=headers)
        assert 400 <= answer.status_code < 500, url


async def _never_ending(scope: Any, receive: Any, send: Any) -> None:
    del scope
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


@contextlib.contextmanager
def _served(receive_s: float, most: int = 10) -> Iterator[int]:
    """A server of that application, by our protocol; its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        _never_ending, http=punctual(receive_s, most), lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment] # of the main thread
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(asyncio.run, server.serve([listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            running.result(10)


def _answer(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_what_is_no_http_and_who_is_late_get_a_whole_problem_or_none() -> None:
    with _served(receive_s=0.3) as port:
        for request, status in {
            b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
            b"\x16\x03\x01\x02\x00\r\n\r\n": 400,
            b"GET /x HTTP/1.1\r\nHost:": 408,
        }.items():
            head, _, body = _answer(port, request).partition(b"\r\n\r\n")
            told = json.loads(body)
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"application/problem+json" in head
            assert b"Content-Security-Policy" in head
            assert set(told) == set(Problem.model_fields)
            assert told["request_id"].encode() in head
        # What has been answered in part cannot be refused any more: it ends.
        broken = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(broken)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            connection.sendall(b"no chunk\r\n")
            rest = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b"HTTP/1.1" not in rest


def test_a_connection_more_than_allowed_is_closed() -> None:
    with _served(receive_s=5, most=2) as port, contextlib.ExitStack() as open_ones:
        for _ in range(2):
            kept = open_ones.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            kept.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
        with contextlib.suppress(ConnectionError):
            assert _answer(port, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n") == b""
