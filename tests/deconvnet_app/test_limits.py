"""Every limit that is published is the one that is enforced: what it says is taken, no more is."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from deconvnet.client.client import SILENCE_S
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings
from tests.deconvnet_app.http import test_protocol
from tests.deconvnet_app.imaging import test_decoder
from tests.deconvnet_app.jobs import test_durability
from tests.deconvnet_app.services import test_job_events, test_jobs

BODY = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures", "limit": 1},
}
WHOLE = BODY | {"inputs": {"dataset": "pictures"}}  # 24 of them
SIZE = len(httpx2.Request("POST", "http://x", json=WHOLE).content)

# Limits that need a running server, time or a hostile file, and the tests that pass them there.
ELSEWHERE = {
    "connections": test_protocol.test_a_connection_more_than_allowed_is_closed,
    "receive_s": test_protocol.test_a_body_that_stops_is_answered_with_408,
    "receive_bytes_per_s": test_protocol.test_a_body_slower_than_the_rate_is_refused,
    "unit_timeout_s": (
        test_durability.test_a_unit_past_its_deadline_fails_alone_and_a_job_past_its_own_expires
    ),
    "event_streams": test_job_events.test_more_followers_than_allowed_are_refused_for_a_while,
    "retention_s": (
        test_jobs.test_jobs_uploads_and_results_of_pages_are_kept_for_the_retention_only
    ),
    "image_cpu_s": test_decoder.test_a_bomb_takes_its_limits_at_most,
    "image_memory_bytes": test_decoder.test_a_picture_that_needs_too_much_memory_is_refused,
}


def upload(client: TestClient, data: bytes) -> Any:
    return client.post("/api/v1/images", files={"file": ("a.png", data, "image/png")})


@pytest.mark.parametrize(
    ("setting", "value", "shown", "status", "code"),
    [
        ("file_bytes", 80, "file_bytes", 413, "file_too_large"),
        ("request_bytes", 100, "request_bytes", 413, "body_too_large"),
        ("image_pixels", 255, "image_pixels", 413, "image_too_large"),
        ("image_side", 15, "image_side", 413, "image_too_large"),
        ("artifact_bytes", 100, "artifact_bytes", 507, "storage_full"),
        ("uploads", 1, "uploads_per_minute", 429, "too_many"),
    ],
)
def test_a_limit_of_uploads_holds(
    tiny_settings: Callable[..., Settings],
    make_png: Callable[..., bytes],
    setting: str,
    value: int,
    shown: str,
    status: int,
    code: str,
) -> None:
    with TestClient(create_app(tiny_settings(**{setting: value}))) as client:
        assert client.get("/api/v1").json()["limits"][shown] == value
        for colour in ((10, 20, 30), (200, 20, 30)):  # a rate is passed by the second
            answer = upload(client, make_png(colour))
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:deconvnet:problem:{code}"
    assert ("Retry-After" in answer.headers) == (status == 429)


@pytest.mark.parametrize(
    ("setting", "value", "shown", "status", "code"),
    [
        ("job_inputs", 23, "job_inputs", 422, "invalid"),
        ("json_bytes", SIZE - 1, "json_bytes", 413, "body_too_large"),
        ("submissions", 1, "submissions_per_minute", 429, "too_many"),
        ("queued_jobs", 1, "queued_jobs", 429, "too_many_jobs"),
    ],
)
def test_a_limit_of_jobs_holds(
    tiny_settings: Callable[..., Settings],
    setting: str,
    value: int,
    shown: str,
    status: int,
    code: str,
) -> None:
    app = create_app(tiny_settings(**{setting: value}))
    with TestClient(app) as client:
        app.state.deconv.jobs.drain()  # a job stays queued
        assert client.get("/api/v1").json()["limits"][shown] == value
        for _ in range(2):
            answer = client.post("/api/v1/jobs", json=WHOLE)
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:deconvnet:problem:{code}"


def test_as_much_as_a_setting_says_is_taken(
    tiny_settings: Callable[..., Settings], make_png: Callable[..., bytes]
) -> None:
    picture = make_png()
    exact = {"file_bytes": len(picture), "image_pixels": 256, "image_side": 16, "uploads": 1}
    exact |= {"job_inputs": 24, "json_bytes": SIZE, "submissions": 1, "queued_jobs": 1}
    with TestClient(create_app(tiny_settings(**exact))) as client:
        assert upload(client, picture).status_code == 201
        assert client.post("/api/v1/jobs", json=WHOLE).status_code == 202


@pytest.mark.parametrize("over", [0, 1])
def test_the_limits_of_a_submission_hold(
    client: TestClient, make_png: Callable[..., bytes], over: int
) -> None:
    limits = client.get("/api/v1").json()["limits"]
    image = upload(client, make_png()).json()["id"]
    chars, entries = "x" * (limits["metadata_chars"] + over), limits["metadata_entries"] + over
    custom_id = "x" * (limits["custom_id_chars"] + over)
    changes: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"metadata": {chars: "a"}}, {}),
        ({"metadata": {"a": chars}}, {}),
        ({"metadata": {str(n): "" for n in range(entries)}}, {}),
        ({"timeout_s": limits["job_timeout_s"] + over}, {}),
        ({"inputs": {"images": [{"id": image, "custom_id": custom_id}]}}, {}),
        ({}, {"Idempotency-Key": "k" * (limits["idempotency_key_chars"] + over)}),
    ]
    for change, headers in changes:
        answer = client.post("/api/v1/jobs", json=BODY | change, headers=headers)
        assert answer.status_code == (422 if over else 202), (change, answer.text)
    wide = BODY | {"metadata": {str(n): "" for n in range(limits["object_names"] + over)}}
    assert client.post("/api/v1/jobs", json=wide).status_code == (400 if over else 422)


@pytest.mark.parametrize(("over", "status"), [(0, 422), (1, 400)])
def test_a_body_has_as_many_objects_as_are_taken_or_is_read_no_further(
    tiny_settings: Callable[..., Settings], over: int, status: int
) -> None:
    with TestClient(create_app(tiny_settings(job_inputs=1))) as client:
        most = client.get("/api/v1").json()["limits"]["json_objects"]
        assert most == 1004
        answer = client.post("/api/v1/jobs", json={"inputs": [{}] * (most - 1 + over)})
    assert answer.status_code == status
    assert ("more than 1004 objects" in answer.json()["detail"]) == bool(over)


def test_the_limits_of_reading_hold(client: TestClient, make_png: Callable[..., bytes]) -> None:
    limits = client.get("/api/v1").json()["limits"]
    for over, status in ((0, 200), (1, 422)):
        most = limits["page_items"] + over
        assert client.get(f"/api/v1/jobs?limit={most}").status_code == status

    url = upload(client, make_png()).json()["links"]["png"]
    for over, status in ((0, 206), (1, 200)):
        parts = ",".join(f"{n}-{n}" for n in range(0, 2 * (limits["ranges"] + over), 2))
        assert client.get(url, headers={"Range": f"bytes={parts}"}).status_code == status

    for over, status in ((-1000, 200), (1, 431)):
        headers = {"X-Long": "x" * (limits["head_bytes"] + over)}
        assert client.get("/api/v1", headers=headers).status_code == status

    longest = {"Prefer": f"wait={limits['wait_s'] + 1}"}
    waited = client.post("/api/v1/jobs", json=BODY, headers=longest)
    assert waited.headers["Preference-Applied"] == f"wait={limits['wait_s']}"


def test_the_client_waits_longer_than_a_stream_is_silent(client: TestClient) -> None:
    assert client.get("/api/v1").json()["limits"]["event_silence_s"] < SILENCE_S


HERE = {
    "file_bytes", "request_bytes", "image_pixels", "image_side", "artifact_bytes",
    "uploads_per_minute", "job_inputs", "json_bytes", "submissions_per_minute", "queued_jobs",
    "metadata_chars", "metadata_entries", "custom_id_chars", "idempotency_key_chars",
    "object_names", "json_objects",
    "job_timeout_s", "page_items", "ranges", "head_bytes", "wait_s", "event_silence_s",
}  # fmt: skip


def test_no_limit_is_published_that_no_test_passes(client: TestClient) -> None:
    assert set(client.get("/api/v1").json()["limits"]) == HERE | set(ELSEWHERE)


def test_a_setting_that_is_changed_is_told(tiny_settings: Callable[..., Settings]) -> None:
    changed = {"receive_s": 3.5, "receive_rate": 99, "connections": 7, "unit_timeout_s": 4.5}
    changed |= {"event_streams": 5, "retention_s": 6.5}
    with TestClient(create_app(tiny_settings(**changed))) as client:
        limits = client.get("/api/v1").json()["limits"]
    names = {"receive_rate": "receive_bytes_per_s"}
    assert {name: limits[names.get(name, name)] for name in changed} == changed
