"""What happens to a job, told as a stream of events."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings

pytestmark = pytest.mark.databases

BODY = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures", "limit": 5},
}

Event = tuple[int, str, dict[str, Any]]


def parse(text: str) -> list[Event]:
    """The events of a stream: id, kind, data."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
def job(client: TestClient) -> str:
    answer = client.post("/api/v1/jobs", json=BODY, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200
    return str(answer.json()["id"])


def test_the_whole_story_is_told_from_the_first_version_to_the_end(
    client: TestClient, job: str
) -> None:
    answer = client.get(f"/api/v1/jobs/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *story, end = parse(answer.text)
    version = client.get(f"/api/v1/jobs/{job}").json()["version"]
    assert [number for number, _, _ in story] == list(range(1, version + 1))
    states = [data["state"] for _, kind, data in story if kind == "state"]
    assert states == ["queued", "running", "succeeded"]
    items = {data["n"]: data["state"] for _, kind, data in story if kind == "item"}
    assert items == dict.fromkeys(range(5), "succeeded")
    done = [data["counts"]["succeeded"] for _, _, data in story]
    assert done == sorted(done)
    assert (end[0], end[1], end[2]["state"]) == (version, "end", "succeeded")


def test_last_event_id_replays_what_came_after_it(client: TestClient, job: str) -> None:
    url = f"/api/v1/jobs/{job}/events"
    whole = parse(client.get(url).text)
    for seen in (0, 3, len(whole) - 1):
        rest = parse(client.get(url, headers={"Last-Event-ID": str(seen)}).text)
        assert rest == whole[seen:]
    assert parse(client.get(url, headers={"Last-Event-ID": ""}).text) == whole


def test_a_place_that_the_story_has_not_come_to_is_refused(client: TestClient, job: str) -> None:
    url = f"/api/v1/jobs/{job}/events"
    for bad, status in {"999": 409, "-1": 422, "x": 422, "+0.0": 422}.items():
        answer = client.get(url, headers={"Last-Event-ID": bad})
        assert answer.status_code == status, bad
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/api/v1/jobs/job_nope/events").status_code == 404


@pytest.mark.usefixtures("hopeless")
def test_a_job_tried_again_goes_on_with_its_story(client: TestClient) -> None:
    body = BODY | {"method": "hopeless", "target": None}
    job = client.post("/api/v1/jobs", json=body, headers={"Prefer": "wait=60"}).json()["id"]
    first = client.get(f"/api/v1/jobs/{job}").json()["version"]
    client.post(f"/api/v1/jobs/{job}/retry-failed")
    story = parse(client.get(f"/api/v1/jobs/{job}/events").text)
    assert [number for number, _, _ in story[:-1]] == list(range(1, len(story)))
    assert [kind for _, kind, _ in story].count("end") == 1
    again = next(data for number, _, data in story if number == first + 1)
    assert (again["state"], again["counts"]["failed"]) == ("queued", 0)


def test_more_followers_than_allowed_are_refused_for_a_while(
    tiny_settings: Callable[..., Settings],
) -> None:
    app = create_app(tiny_settings(event_streams=1))
    with TestClient(app) as client:
        job = client.post("/api/v1/jobs", json=BODY, headers={"Prefer": "wait=60"}).json()["id"]
        watchers = app.state.deconv.watchers

        async def one_more() -> int:
            from starlette.concurrency import run_in_threadpool

            with watchers.watch(job):
                answer = await run_in_threadpool(client.get, f"/api/v1/jobs/{job}/events")
            return int(answer.status_code)

        assert client.portal is not None
        assert client.portal.call(one_more) == 429
        assert client.get(f"/api/v1/jobs/{job}/events").status_code == 200
        assert watchers.listeners() == 0
