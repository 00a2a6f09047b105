"""What an operator sees: a log that can be searched, counters, and refusals past a rate."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from deconvnet_app import logs
from deconvnet_app.errors import ArtifactMissingError
from deconvnet_app.http.middleware import Guard
from deconvnet_app.http.problems import answerer
from deconvnet_app.http.rates import MovingWindow
from deconvnet_app.main import create_app
from deconvnet_app.metrics import Metrics
from deconvnet_app.settings import Settings
from deconvnet_app.urls import Urls

DAY_S = 86_400
DECONV = {"model": "tiny", "method": "deconv", "target": {"unit": "conv2:1"}}


def _silent(record: logging.LogRecord) -> bool:
    return False


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The log's lines so far."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(stream)
    logging.getLogger("httpx2").addFilter(_silent)  # the test's own client
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.getLogger("httpx2").removeFilter(_silent)
    root.handlers[:], root.level = before


def counted(client: TestClient, name: str) -> dict[tuple[str, ...], float]:
    """A metric's samples by the values of their labels."""
    text = client.get("/metrics").text
    return {
        tuple(value for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_a_request_and_what_it_logs_share_the_id_that_the_client_is_told(
    client: TestClient, log: Callable[[], list[dict[str, Any]]]
) -> None:
    answer = client.get("/api/v1/models/none")
    (line,) = (line for line in log() if line["event"] == "request")
    assert line["request_id"] == answer.headers["X-Request-Id"] == answer.json()["request_id"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v1/models/none", 404)


def test_the_log_names_the_job(
    client: TestClient,
    make_png: Callable[..., bytes],
    log: Callable[[], list[dict[str, Any]]],
) -> None:
    image = client.post("/api/v1/images", files={"file": ("a.png", make_png())}).json()["id"]
    body = DECONV | {"inputs": {"images": [{"id": image}]}}
    job = client.post("/api/v1/jobs", json=body, headers={"Prefer": "wait=20"}).json()
    client.get(f"/api/v1/jobs/{job['id']}")
    named = [line["method"] for line in log() if line.get("job") == job["id"]]
    assert named == ["POST", "GET"]


def test_the_log_keeps_neither_token_nor_code(
    tiny_settings: Callable[..., Settings], log: Callable[[], list[dict[str, Any]]]
) -> None:
    app = create_app(tiny_settings(auth=True))
    with TestClient(app, follow_redirects=False) as client:
        access = app.state.deconv.access
        code = access.mint()
        client.get(Urls.login(code))
        client.get(Urls.login(code + "x"))
        client.cookies.clear()
        client.get(Urls.login(code))
        client.get("/api/v1", headers={"Authorization": f"Bearer {access.token}"})
        client.get("/api/v1", headers={"Authorization": f"Bearer {access.token}x"})
    said = json.dumps(log())
    assert '"/login"' in said
    assert code not in said
    assert access.token not in said


def test_metrics_tell_requests_units_and_items(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    for n in range(3):
        client.get(f"/api/v1/models/none{n}")
    client.get("/static/favicon.svg")
    image = client.post("/api/v1/images", files={"file": ("a.png", make_png())}).json()["id"]
    body = DECONV | {"inputs": {"images": [{"id": image}]}}
    done = client.post("/api/v1/jobs", json=body, headers={"Prefer": "wait=20"})
    assert done.json()["state"] == "succeeded"
    requests = counted(client, "deconvnet_request_seconds_count")
    assert requests["GET", "/api/v1/models/{model}", "404"] == 3
    assert requests["GET", "/static", "200"] == 1
    assert counted(client, "deconvnet_unit_seconds_count")["deconv", "tiny"] == 1
    assert counted(client, "deconvnet_items")["succeeded",] == 1
    assert counted(client, "deconvnet_jobs")["succeeded",] == 1
    assert counted(client, "deconvnet_units")["running",] == 0
    assert counted(client, "deconvnet_workers_lost_total")[()] == 0


def test_two_applications_count_apart(tiny_settings: Callable[..., Settings]) -> None:
    with TestClient(create_app(tiny_settings())) as one:
        one.get("/api/v1")
    with TestClient(create_app(tiny_settings())) as other:
        assert counted(other, "deconvnet_request_seconds_count") == {}


@pytest.mark.parametrize(
    ("url", "empty"),
    [("/api/v1/jobs", 422), ("/jobs", 404), ("/api/v1/images", 415), ("/occlusion", 422)],
)
def test_past_a_rate_a_client_is_told_when_to_come_back(
    tiny_settings: Callable[..., Settings], url: str, empty: int
) -> None:
    with TestClient(create_app(tiny_settings(submissions=2, uploads=2))) as client:
        limits = client.get("/api/v1").json()["limits"]
        assert limits["submissions_per_minute"] == limits["uploads_per_minute"] == 2
        for _ in range(2):
            assert client.post(url).status_code == empty
        answer = client.post(url)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert client.get(url).status_code in (200, 405)


def test_a_clock_set_back_refuses_nobody_for_longer_than_a_minute(
    tiny_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = time.time()
    with TestClient(create_app(tiny_settings(submissions=2))) as client:
        for _ in range(2):
            client.post("/api/v1/jobs")
        monkeypatch.setattr(time, "time", lambda: before - DAY_S)
        answer = client.post("/api/v1/jobs")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_a_window_takes_as_many_as_it_says_and_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    window = MovingWindow(2)
    assert [window.take() for _ in range(3)] == [0, 0, 60]
    now += 59
    assert window.take() == pytest.approx(1)
    now += 1
    assert [window.take() for _ in range(3)] == [0, 0, 60]


def test_a_database_that_is_damaged_is_told_and_is_not_ready(
    tiny_settings: Callable[..., Settings],
) -> None:
    settings = tiny_settings()
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        assert client.get("/readyz").status_code == 200
        file = settings.data_dir / "deconvnet.sqlite"
        whole = file.read_bytes()
        changed = whole[:24] + b"\xff\xff\xff\xff" + whole[28:4096]  # or caches are believed
        file.write_bytes(changed + b"\xa5" * (len(whole) - 4096))
        for address in ("/readyz", "/api/v1/jobs", "/jobs", "/metrics"):
            answer = client.get(address)
            assert answer.status_code == 503, address
            assert answer.json()["type"] == "urn:deconvnet:problem:database_damaged"
            assert "Retry-After" in answer.headers
        assert client.get("/livez").status_code == 200
        file.write_bytes(whole)


def test_an_answer_that_cannot_go_on_ends_short_and_says_why_in_a_line(
    log: Callable[[], list[dict[str, Any]]],
) -> None:
    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ArtifactMissingError("It is not stored any more.")

    guard = Guard(
        half, most=1, most_parsed=1, patience_s=1, rate=1, metrics=Metrics(), checks=[],
        answer=answerer(None),
    )  # fmt: skip
    assert TestClient(guard).get("/").content == b"half"
    (said,) = [line for line in log() if "broken off" in line["event"]]
    assert "not stored any more" in said["event"]
    assert "exception" not in said


def test_a_job_whose_request_lost_a_word_is_damage_on_its_page_too(client: TestClient) -> None:
    job = client.post("/api/v1/jobs", json=DECONV | {"inputs": {"dataset": "pictures"}}).json()
    with client.app.state.deconv.db.write() as session:  # type: ignore[attr-defined] # FastAPI's
        session.execute(text('UPDATE jobs SET request = \'{"mod": "tiny"}\''))
    for address in (f"/api/v1/jobs/{job['id']}", f"/jobs/{job['id']}", "/jobs"):
        answer = client.get(address)
        assert answer.status_code == 503, address
        assert answer.json()["type"] == "urn:deconvnet:problem:database_damaged"
