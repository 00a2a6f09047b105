"""Cancelling, asked in every state that a job can be in."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from deconvnet_app.db import jobs as store
from tests.deconvnet_app.services.test_jobs import forget_claims

BODY = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures", "limit": 3},
}
RESULT = {"key": "0" * 64, "pictures": {}, "arrays": {}, "facts": {}}
BROKEN = {"code": "broken", "detail": "It broke."}
LATE = {"code": "expired", "detail": "It took too long."}


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        forget_claims(app)
        yield client


def lead(app: FastAPI, client: TestClient, job_id: str, state: str) -> list[store.Claim]:
    """Bring a queued job into a state; the claims that stand then, of two items if it runs."""
    claims: list[store.Claim] = []
    with app.state.deconv.db.write() as session:
        now = time.time()
        if state not in ("queued", "cancelled"):
            claims = store.claim(session, "me", 2, now)
        if state in ("succeeded", "failed"):
            claims += store.claim(session, "me", 1, now)
            for claim in claims:
                if state == "succeeded":
                    store.succeed(session, claim, RESULT, now)
                else:
                    store.fail(session, claim, BROKEN, now)
            claims = []
        if state == "expired":
            job = store.get(session, job_id)
            assert job is not None
            store.stop(session, job, now, LATE, "cancelling")
            for claim in claims:
                store.release(session, claim, now, died=False, most_deaths=3)
            claims = []
    if state in ("cancelling", "cancelled"):
        client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert client.get(f"/api/v1/jobs/{job_id}").json()["state"] == state
    return claims


def counts(succeeded: int = 0, failed: int = 0, skipped: int = 0) -> dict[str, int]:
    return {"total": 3, "succeeded": succeeded, "failed": failed, "skipped": skipped}


@pytest.mark.databases
@pytest.mark.parametrize(
    ("state", "status", "told", "ended", "final"),
    [
        ("queued", 200, "cancelled", "cancelled", counts(skipped=3)),
        ("running", 202, "cancelling", "cancelled", counts(succeeded=1, skipped=2)),
        ("cancelling", 202, "cancelling", "cancelled", counts(succeeded=1, skipped=2)),
        ("succeeded", 200, "succeeded", "succeeded", counts(succeeded=3)),
        ("failed", 200, "failed", "failed", counts(failed=3)),
        ("cancelled", 200, "cancelled", "cancelled", counts(skipped=3)),
        ("expired", 200, "expired", "expired", counts(skipped=3)),
    ],
)
def test_cancel_ends_what_is_active_once_and_changes_nothing_else(
    app: FastAPI,
    client: TestClient,
    state: str,
    status: int,
    told: str,
    ended: str,
    final: dict[str, int],
) -> None:
    job = client.post("/api/v1/jobs", json=BODY).json()["id"]
    claims = lead(app, client, job, state)
    before = client.get(f"/api/v1/jobs/{job}").json()
    answers = [client.post(f"/api/v1/jobs/{job}/cancel") for _ in range(2)]
    for answer in answers:
        assert (answer.status_code, answer.json()["state"]) == (status, told)
    versions = {answer.json()["version"] for answer in answers}
    if state == told:
        versions.add(before["version"])
    assert len(versions) == 1  # nothing has changed the second time, nor at all where all was over

    with app.state.deconv.db.write() as session:
        now = time.time()
        assert store.claim(session, "me", 9, now) == []
        if claims:  # what runs may still come to its end, or give up
            done, left = claims
            assert store.succeed(session, done, RESULT, now)
            assert store.release(session, left, now, died=False, most_deaths=3)
    found: dict[str, Any] = client.get(f"/api/v1/jobs/{job}").json()
    assert (found["state"], found["counts"]) == (ended, final)
    again = client.post(f"/api/v1/jobs/{job}/cancel")
    assert again.status_code == 200
    assert again.json()["version"] == found["version"]


def test_a_job_that_is_not_there_cannot_be_cancelled(client: TestClient) -> None:
    assert client.post("/api/v1/jobs/job_nope/cancel").status_code == 404
