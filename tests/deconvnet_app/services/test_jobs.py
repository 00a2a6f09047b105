"""What becomes of a job after its end: its results as one file, tried again, deleted, forgotten."""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from deconvnet_app.artifacts import sha256
from deconvnet_app.db import jobs as store
from deconvnet_app.jobs.janitor import GRACE_S
from deconvnet_app.main import create_app
from deconvnet_app.services import job_archive, jobs
from deconvnet_app.settings import Settings

pytestmark = pytest.mark.databases

DAY_S = 86_400
OCCLUSION = {"model": "tiny", "method": "occlusion", "params": {"size": 8, "stride": 4}}


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def run(client: TestClient, limit: int = 3, **changes: object) -> dict[str, Any]:
    body = {
        "model": "tiny",
        "method": "deconv",
        "target": {"unit": "conv2:1"},
        "inputs": {"dataset": "pictures", "limit": limit},
    }
    answer = client.post("/api/v1/jobs", json=body | changes, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_an_archive_ends_with_what_there_was_though_the_job_went_on(
    app: FastAPI, client: TestClient
) -> None:
    ended = jobs.get(app.state.deconv, run(client)["id"])
    counts = ended.counts.model_copy(update={"succeeded": 2})
    early = ended.model_copy(update={"counts": counts})  # as it was before its last item
    made = b"".join(job_archive.archive(app.state.deconv, early))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        lines = archive.read("results.jsonl").splitlines()
        folders = {name.split("/")[0] for name in archive.namelist() if "/" in name}
    assert [json.loads(line)["n"] for line in lines] == [0, 1]
    assert folders == {"000000", "000001"}


def test_each_result_names_the_bytes_of_the_file_that_it_was_computed_on(
    tiny_settings: Callable[..., Settings], make_png: Callable[..., bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "changing"
    folder.mkdir()
    (folder / "stays.png").write_bytes(make_png((1, 2, 3)))
    inputs = {"dataset": "changing"}
    found = []
    with TestClient(create_app(tiny_settings(datasets={"changing": folder}))) as client:
        for colour in ((200, 10, 10), (10, 200, 10)):
            (folder / "turns.png").write_bytes(make_png(colour))
            job = run(client, **OCCLUSION, target={"class": 2}, inputs=inputs)
            items = client.get(f"/api/v1/jobs/{job['id']}/items").json()["items"]
            assert [one["path"] for one in items] == ["stays.png", "turns.png"]
            for one in items:
                assert one["sha256"] == sha256((folder / one["path"]).read_bytes())
            found.append(items)
    (stays, turns), (still, turned) = found
    assert (stays["facts"], stays["sha256"]) == (still["facts"], still["sha256"])
    assert turns["facts"] != turned["facts"]


def stored(app: FastAPI) -> set[str]:
    return {name for name, _, _ in app.state.deconv.artifacts.files()}


def forget_claims(app: FastAPI) -> None:
    """From here on, nothing that is queued is started."""
    app.state.deconv.jobs.drain()
    app.state.deconv.jobs.join(10)


def test_results_zip_holds_every_file_and_says_where_each_is(client: TestClient) -> None:
    job = run(client)
    answer = client.get(f"/api/v1/jobs/{job['id']}/results.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        lines = archive.read("results.jsonl").decode().splitlines()
        assert [json.loads(line)["n"] for line in lines] == [0, 1, 2]
        assert archive.read("errors.jsonl") == b""
        named = set()
        for line in map(json.loads, lines):
            named.update(line["pictures"].values(), line["arrays"].values())
            url = f"/api/v1/jobs/{job['id']}/items/{line['n']}/heatmap.png"
            assert archive.read(line["pictures"]["heatmap"]) == client.get(url).content
            assert np.load(io.BytesIO(archive.read(line["arrays"]["map"]))).ndim == 3
        assert named | {"results.jsonl", "errors.jsonl"} == set(archive.namelist())


def test_an_archive_that_lacks_a_file_is_refused_before_it_begins(
    app: FastAPI, client: TestClient
) -> None:
    job = run(client)
    item = client.get(f"/api/v1/jobs/{job['id']}/results.jsonl").text.splitlines()[1]
    etag = client.get(json.loads(item)["pictures"]["heatmap"]).headers["ETag"]
    app.state.deconv.artifacts.path(etag.strip('"')).unlink()
    for gone in ("results.zip", "items/1/heatmap.png"):
        answer = client.get(f"/api/v1/jobs/{job['id']}/{gone}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert "not stored any more" in answer.json()["detail"].replace("(any more)", "any more")


def test_head_of_a_stream_that_goes_on_is_answered_at_once(
    app: FastAPI, client: TestClient
) -> None:
    forget_claims(app)
    body = OCCLUSION | {"inputs": {"dataset": "pictures", "limit": 2}}
    job = client.post("/api/v1/jobs", json=body).json()["id"]
    answer = client.head(f"/api/v1/jobs/{job}/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b""
    assert app.state.deconv.watchers.listeners() == 0


def test_results_of_an_active_job_are_given_only_when_asked_for_in_part(
    app: FastAPI, client: TestClient
) -> None:
    forget_claims(app)
    inputs = {"dataset": "pictures", "limit": 2}
    body = OCCLUSION | {"inputs": inputs}
    job = client.post("/api/v1/jobs", json=body).json()["id"]
    for name in ("results.jsonl", "errors.jsonl", "results.zip"):
        refused = client.get(f"/api/v1/jobs/{job}/{name}")
        assert refused.status_code == 409
        assert "?partial=true" in refused.json()["detail"]
        assert client.get(f"/api/v1/jobs/{job}/{name}?partial=true").status_code == 200
    assert client.post(f"/api/v1/jobs/{job}/retry-failed").status_code == 409
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 409


def fail_items(app: FastAPI, job_id: str, which: list[int]) -> None:
    """Have these items of a new job fail, and the others succeed."""
    state = app.state.deconv
    with state.db.write() as session:
        for claim in store.claim(session, "me", 100, time.time()):
            if claim.n in which:
                store.fail(session, claim, {"code": "broken", "detail": "It broke."}, time.time())
            else:
                result = {"key": "0" * 64, "pictures": {}, "arrays": {}, "facts": {}}
                store.succeed(session, claim, result, time.time())
        job = store.get(session, job_id)
        assert job is not None
        assert job.finished_at is not None


def test_retry_failed_computes_only_what_failed_and_keeps_the_rest(
    tiny_settings: Callable[..., Settings],
) -> None:
    first = create_app(tiny_settings())
    inputs = {"dataset": "pictures", "limit": 4}
    body = OCCLUSION | {"inputs": inputs}
    with TestClient(first) as client:
        forget_claims(first)
        job = client.post("/api/v1/jobs", json=body).json()["id"]
        fail_items(first, job, [1, 2])
        found = client.get(f"/api/v1/jobs/{job}").json()
        assert (found["state"], found["counts"]["failed"]) == ("succeeded", 2)
        answer = client.post(f"/api/v1/jobs/{job}/retry-failed")
        assert answer.status_code == 202
        assert answer.json()["state"] == "queued"
        assert answer.json()["counts"] == {"total": 4, "succeeded": 2, "failed": 0, "skipped": 0}
        kept = client.get(f"/api/v1/jobs/{job}/items/0").json()

    with TestClient(create_app(tiny_settings())) as client:
        until = time.monotonic() + 60
        while client.get(f"/api/v1/jobs/{job}").json()["state"] != "succeeded":
            assert time.monotonic() < until
            time.sleep(0.05)
        assert client.get(f"/api/v1/jobs/{job}").json()["counts"]["succeeded"] == 4
        assert client.get(f"/api/v1/jobs/{job}/errors.jsonl").text == ""
        assert client.get(f"/api/v1/jobs/{job}/items/0").json() == kept
        assert client.get(f"/api/v1/jobs/{job}/items/1").json()["attempt"] == 2


def test_retry_failed_of_a_job_without_failures_changes_nothing(client: TestClient) -> None:
    job = run(client)
    answer = client.post(f"/api/v1/jobs/{job['id']}/retry-failed")
    assert answer.status_code == 200
    assert answer.json()["version"] == job["version"]
    assert client.post("/api/v1/jobs/job_nope/retry-failed").status_code == 404


@pytest.mark.usefixtures("hopeless")
def test_a_job_that_failed_as_a_whole_is_tried_again_with_what_it_skipped(
    client: TestClient,
) -> None:
    job = run(client, limit=12, method="hopeless", target=None)
    assert job["state"] == "failed"
    assert job["counts"]["skipped"] > 0
    again = client.post(f"/api/v1/jobs/{job['id']}/retry-failed").json()
    assert again["counts"] == {"total": 12, "succeeded": 0, "failed": 0, "skipped": 0}
    assert again["error"] is None


@pytest.mark.databases
def test_a_deleted_job_is_gone_at_once_and_its_key_makes_no_other_within_the_retention(
    app: FastAPI, client: TestClient
) -> None:
    inputs = {"dataset": "pictures", "limit": 1}
    body = OCCLUSION | {"inputs": inputs}
    headers = {"Idempotency-Key": "k"}
    first = client.post("/api/v1/jobs", json=body, headers=headers)
    job = first.json()["id"]
    ended = client.post("/api/v1/jobs", json=body, headers=headers | {"Prefer": "wait=60"})
    assert ended.json()["state"] == "succeeded"
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 204
    for end in ("", "/items", "/items/0", "/items/0/heatmap.png", "/results.zip", "/events"):
        assert client.get(f"/api/v1/jobs/{job}{end}").status_code == 404
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 404
    assert client.get("/api/v1/jobs").json()["items"] == []
    janitor, now = app.state.deconv.janitor, time.time()
    for passed in (0, GRACE_S + 1, 6 * DAY_S):  # its rows go with the second
        janitor.tidy(now + passed, old_files=False)
        again = client.post("/api/v1/jobs", json=body, headers=headers | {"Prefer": "wait=1"})
        assert (again.status_code, again.content) == (202, first.content)
    janitor.tidy(now + 7 * DAY_S + 1, old_files=False)
    assert client.post("/api/v1/jobs", json=body, headers=headers).json()["id"] != job


def test_files_of_a_deleted_job_go_except_those_that_another_names(
    app: FastAPI, client: TestClient
) -> None:
    before = stored(app)
    one, other = run(client, limit=3), run(client, limit=2)
    shared = stored(app) - before
    janitor = app.state.deconv.janitor
    client.delete(f"/api/v1/jobs/{one['id']}")
    assert janitor.tidy(time.time(), old_files=False) == 0  # within the grace
    assert stored(app) - before == shared

    later = time.time() + GRACE_S + 1
    assert janitor.tidy(later, old_files=False) > 0
    assert app.state.deconv.artifacts.used() == sum(
        size for _, size, _ in app.state.deconv.artifacts.files()
    )
    archive = client.get(f"/api/v1/jobs/{other['id']}/results.zip").content
    assert zipfile.ZipFile(io.BytesIO(archive)).testzip() is None

    client.delete(f"/api/v1/jobs/{other['id']}")
    janitor.tidy(later + GRACE_S + 1, old_files=False)
    assert stored(app) == before
    assert run(client, limit=3)["state"] == "succeeded"  # computed anew, not taken from a cache


def test_jobs_uploads_and_results_of_pages_are_kept_for_the_retention_only(
    app: FastAPI, client: TestClient, make_png: Callable[..., bytes]
) -> None:
    def upload(data: bytes) -> str:
        return str(client.post("/api/v1/images", files={"file": data}).json()["id"])

    used, unused = upload(make_png()), upload(make_png((9, 9, 9)))
    job = run(client, inputs={"images": [{"id": used}]})
    janitor, now = app.state.deconv.janitor, time.time()
    janitor.tidy(now + 6 * DAY_S, old_files=True)
    assert client.get(f"/api/v1/jobs/{job['id']}").status_code == 200

    janitor.tidy(now + 7 * DAY_S + 60, old_files=True)
    assert client.get(f"/api/v1/jobs/{job['id']}").status_code == 404
    assert client.get(f"/api/v1/images/{unused}").status_code == 404
    assert client.get(f"/api/v1/images/{used}").status_code == 200  # its job's rows are there yet
    for days in (8, 9):
        janitor.tidy(now + days * DAY_S, old_files=True)
    assert client.get(f"/api/v1/images/{used}").status_code == 404
    assert stored(app) == set()
    assert list(Path(app.state.deconv.compute.cache.root).rglob("*.json")) == []


def test_a_clock_that_jumps_ends_nothing_before_its_time(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    janitor, before = app.state.deconv.janitor, time.time()
    ended = [run(client)["id"]]
    for days in (30, -30, 0):
        monkeypatch.setattr(time, "time", lambda days=days: before + days * DAY_S)
        janitor.tidy(janitor.now(), old_files=True)
        ended.append(run(client, limit=4)["id"])
        for job in ended:  # those, too, that ended while the clock was behind
            path = f"/api/v1/jobs/{job}/items/0/heatmap.png"
            assert client.get(path).status_code == 200, (days, job)


def test_a_full_quota_refuses_jobs_names_the_remedy_and_takes_them_again_when_there_is_room(
    app: FastAPI, client: TestClient
) -> None:
    job = run(client)
    artifacts = app.state.deconv.artifacts
    assert artifacts.used() == sum(size for _, size, _ in artifacts.files())
    artifacts.quota = artifacts.used() - 1
    inputs = {"dataset": "pictures", "limit": 1}
    body = OCCLUSION | {"inputs": inputs}
    refused = client.post("/api/v1/jobs", json=body)
    assert refused.status_code == 507
    assert "Delete jobs" in refused.json()["detail"]
    client.delete(f"/api/v1/jobs/{job['id']}")
    app.state.deconv.janitor.tidy(time.time() + GRACE_S + 1, old_files=False)
    assert client.post("/api/v1/jobs", json=body).status_code == 202


def test_a_file_that_somebody_has_just_found_is_not_discarded(tmp_path: Path) -> None:
    from deconvnet_app.artifacts import ArtifactStore

    artifacts = ArtifactStore(tmp_path)
    found, left = artifacts.put(b"found"), artifacts.put(b"left")
    later = time.time() + 0.05
    time.sleep(0.1)
    assert artifacts.hold(found)
    assert artifacts.discard([found, left, "0" * 64], later) == 1
    assert not artifacts.hold(found, left)
    assert artifacts.read(found) == b"found"
