"""Clients that keep the server waiting are cut off; those that are merely large are not."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings


def test_a_body_that_stops_is_answered_with_408(tiny_settings: Callable[..., Settings]) -> None:
    app = create_app(tiny_settings(receive_s=0.2))
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/jobs",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }

    async def receive() -> dict[str, Any]:
        if not sent:
            await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as thread:  # a browser's tests leave a loop in this one
        thread.submit(asyncio.run, app(scope, receive, send)).result()
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"too_slow" in sent[1]["body"]


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
