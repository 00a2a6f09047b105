"""Batch jobs through the REST interface, computed inline."""

import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings

OCCLUSION = {
    "model": "tiny",
    "method": "occlusion",
    "params": {"size": 8, "stride": 4},
    "target": {"class": 2},
}


def upload(client: TestClient, data: bytes) -> str:
    answer = client.post("/api/v1/images", files={"file": ("a.png", data, "image/png")})
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


def submit(client: TestClient, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = client.post("/api/v1/jobs", json=body, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json())


def finish(client: TestClient, job_id: str, seconds: float = 60) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job = client.get(f"/api/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "running", "cancelling"):
            return dict(job)
        time.sleep(0.05)
    raise AssertionError(f"job still {job['state']} after {seconds} s: {job}")


@pytest.mark.databases
def test_a_job_of_uploads_runs_to_its_end_and_gives_pictures_and_arrays(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    images = [
        {"id": upload(client, make_png()), "custom_id": "a"},
        {"id": upload(client, make_png((200, 40, 10)))},
    ]
    answer = client.post("/api/v1/jobs", json=OCCLUSION | {"inputs": {"images": images}})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/jobs/{answer.json()['id']}"
    assert answer.headers["Retry-After"]

    job = finish(client, answer.json()["id"])
    assert job["state"] == "succeeded", job
    assert job["counts"] == {"total": 2, "succeeded": 2, "failed": 0, "skipped": 0}
    assert job["request"]["params"] == {"size": 8, "stride": 4, "fill": "grey"}
    assert set(job["fingerprints"]) == {"network", "code", "inputs"}

    items = client.get(f"/api/v1/jobs/{job['id']}/items").json()["items"]
    assert [item["custom_id"] for item in items] == ["a", None]
    assert items[0]["facts"]["target"]["class"] == 2
    assert [item["sha256"][:32] for item in items] == [one["id"][4:] for one in images]

    heatmap = client.get(f"/api/v1/jobs/{job['id']}/items/0/heatmap.png")
    assert heatmap.status_code == 200
    assert Image.open(io.BytesIO(heatmap.content)).size == (16, 16)
    assert "immutable" in heatmap.headers["Cache-Control"]
    array = np.load(io.BytesIO(client.get(f"/api/v1/jobs/{job['id']}/items/1/map.npy").content))
    assert array.shape == (16, 16)

    lines = client.get(f"/api/v1/jobs/{job['id']}/results.jsonl").text.splitlines()
    assert [json.loads(line)["n"] for line in lines] == [0, 1]
    assert client.get(json.loads(lines[0])["pictures"]["activity"]).status_code == 200
    assert client.get(f"/api/v1/jobs/{job['id']}/errors.jsonl").text == ""


JSON = {"Content-Type": "application/json"}
DATASET = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures", "limit": 1},
}


def test_a_job_over_a_dataset_takes_what_the_pattern_matches(client: TestClient) -> None:
    inputs = {"dataset": "pictures", "glob": "warm/*.png", "limit": 5}
    body = {"model": "tiny", "method": "deconv", "target": {"unit": "conv2:1"}, "inputs": inputs}
    job = finish(client, submit(client, body)["id"])
    assert job["state"] == "succeeded", job
    items = client.get(f"/api/v1/jobs/{job['id']}/items").json()["items"]
    assert [item["path"] for item in items] == [f"warm/{n:02d}.png" for n in (0, 2, 4, 6, 8)]


def test_prefer_wait_answers_200_with_the_finished_job(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    body = OCCLUSION | {"inputs": {"images": [{"id": upload(client, make_png())}]}}
    answer = client.post("/api/v1/jobs", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=30"
    assert answer.json()["state"] == "succeeded"


@pytest.mark.parametrize("prefer", ["WAIT=30", "respond-async, wait = 30", 'wait="30"; x=1'])
def test_a_preference_is_read_however_it_is_spelt(client: TestClient, prefer: str) -> None:
    answer = client.post("/api/v1/jobs", json=DATASET, headers={"Prefer": prefer})
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_no_wait_is_longer_than_a_minute(client: TestClient) -> None:
    answer = client.post("/api/v1/jobs", json=DATASET, headers={"Prefer": "wait=" + "9" * 5000})
    assert answer.headers["Preference-Applied"] == "wait=60"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait=1.5", "wait=x", "foo=wait=3", ",,"])
def test_what_is_no_wait_is_not_waited_for(client: TestClient, prefer: str) -> None:
    answer = client.post("/api/v1/jobs", json=DATASET, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


def test_outputs_says_which_files_are_kept(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    images = {"images": [{"id": upload(client, make_png())}]}
    job = finish(client, submit(client, OCCLUSION | {"inputs": images, "outputs": ["npy"]})["id"])
    missing = client.get(f"/api/v1/jobs/{job['id']}/items/0/heatmap.png")
    assert missing.status_code == 404
    assert "outputs has no png" in missing.json()["detail"]
    assert client.get(f"/api/v1/jobs/{job['id']}/items/0/map.npy").status_code == 200


@pytest.mark.databases
def test_the_same_key_gives_the_first_answer_again_and_another_body_is_refused(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    body = OCCLUSION | {"inputs": {"images": [{"id": upload(client, make_png())}]}}
    key = {"Idempotency-Key": "k1"}
    first = client.post("/api/v1/jobs", json=body, headers=key)
    assert finish(client, first.json()["id"])["state"] == "succeeded"
    second = client.post("/api/v1/jobs", json=body, headers=key)
    assert (second.status_code, second.content) == (202, first.content)
    for name in ("ETag", "Location", "Retry-After"):
        assert second.headers[name] == first.headers[name]
    waited = client.post("/api/v1/jobs", json=body, headers=key | {"Prefer": "wait=60"})
    assert (waited.status_code, waited.json()["state"]) == (200, "succeeded")
    other = client.post("/api/v1/jobs", json=body | {"outputs": ["png"]}, headers=key)
    assert other.status_code == 422
    assert other.json()["type"].endswith("idempotency_key_reused")
    spelled = json.dumps(dict(reversed(body.items())), indent=1).replace("tiny", "t\\u0069ny")
    other_words = {**key, "Content-Type": "application/json"}
    again = client.post("/api/v1/jobs", content=spelled, headers=other_words)
    assert (again.status_code, again.content) == (202, first.content)
    assert len(client.get("/api/v1/jobs").json()["items"]) == 1


def test_a_request_that_cannot_work_is_refused_with_a_pointer(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    inputs = {"images": [{"id": upload(client, make_png())}]}
    good = OCCLUSION | {"inputs": inputs}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": "tiny2"}, "/model"),
        ({"method": "magic"}, ""),
        ({"params": {"size": 0}}, "/params/size"),
        ({"params": {"sise": 8}}, "/params/sise"),
        ({"method": "deconv", "params": {}}, "/target"),
        ({"method": "deconv", "params": {}, "target": None}, "/target"),
        ({"target": {"unit": "nonsense"}}, "/target"),
        ({"inputs": {"images": [{"id": "img_nope"}]}}, "/inputs/images/0/id"),
        ({"inputs": {"dataset": "pictures", "glob": "x/*"}}, "/inputs/glob"),
        ({"inputs": {"dataset": "nope"}}, "/inputs/dataset"),
        ({"inputs": {"dataset": "pictures", "limit": True}}, "/inputs/limit"),
        ({"target": {"class": True}}, "/target/class"),
        ({"surprise": 1}, "/surprise"),
    ]
    for change, pointer in cases:
        answer = client.post("/api/v1/jobs", json=good | change)
        assert answer.status_code == 422, (change, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        found = [fault["pointer"] for fault in answer.json()["errors"]]
        assert any(one.startswith(pointer) for one in found), (change, answer.text)
    form = client.post("/api/v1/jobs", content=b"{}")
    assert "Content-Type: application/json" in form.json()["detail"]
    broken = client.post("/api/v1/jobs", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 400


@pytest.mark.databases
@pytest.mark.usefixtures("hopeless")
def test_an_error_that_every_item_would_meet_fails_the_job_at_once(client: TestClient) -> None:
    body = {"model": "tiny", "method": "hopeless", "inputs": {"dataset": "pictures"}}
    job = finish(client, submit(client, body)["id"])
    assert job["state"] == "failed"
    assert job["error"] == {"code": "parameter_error", "detail": "No image will do."}
    assert job["counts"]["skipped"] > 0


@pytest.mark.databases
def test_paging_walks_over_every_item_once_and_refuses_a_foreign_cursor(
    client: TestClient,
) -> None:
    body = OCCLUSION | {"inputs": {"dataset": "pictures"}}
    job = finish(client, submit(client, body)["id"])
    seen: list[int] = []
    url: str | None = f"/api/v1/jobs/{job['id']}/items?limit=7"
    while url:
        answer = client.get(url)
        seen += [item["n"] for item in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
        assert ("Link" in answer.headers) == (cursor is not None)
        url = answer.links.get("next", {}).get("url")
    assert seen == list(range(24))
    items = f"/api/v1/jobs/{job['id']}/items"
    cursor = client.get(f"{items}?limit=7").json()["next_cursor"]
    assert client.get(f"{items}?limit=3&cursor={cursor}").json()["items"][0]["n"] == 7
    jobs = f"/api/v1/jobs?cursor={cursor}"
    for foreign in (f"{items}?cursor=abc", f"{items}?state=failed&cursor={cursor}", jobs):
        refused = client.get(foreign)
        assert refused.status_code == 422, foreign
        assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/query/cursor"]


@pytest.mark.databases
def test_jobs_are_listed_newest_first_by_state(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    inputs = {"inputs": {"images": [{"id": upload(client, make_png())}]}}
    ids = [submit(client, OCCLUSION | inputs)["id"] for _ in range(3)]
    for one in ids:
        finish(client, one)
    listed = client.get("/api/v1/jobs?state=succeeded&limit=2").json()
    assert [job["id"] for job in listed["items"]] == ids[:0:-1]
    rest = client.get(f"/api/v1/jobs?state=succeeded&cursor={listed['next_cursor']}").json()
    assert [job["id"] for job in rest["items"]] == ids[:1]
    assert client.get("/api/v1/jobs?state=failed").json()["items"] == []
    assert client.get("/api/v1/jobs?state=sleeping").status_code == 422
    for limit in ("1_0", "%2B1", "1.0", "%201", "-1", "0"):
        assert client.get(f"/api/v1/jobs?limit={limit}").status_code == 422, limit


@pytest.mark.databases
def test_an_unchanged_job_answers_304(client: TestClient, make_png: Callable[..., bytes]) -> None:
    inputs = {"inputs": {"images": [{"id": upload(client, make_png())}]}}
    job = finish(client, submit(client, OCCLUSION | inputs)["id"])
    etag = client.get(f"/api/v1/jobs/{job['id']}").headers["ETag"]
    again = client.get(f"/api/v1/jobs/{job['id']}", headers={"If-None-Match": etag})
    assert again.status_code == 304


@pytest.mark.databases
def test_too_many_unfinished_jobs_are_refused_for_a_while(
    tiny_settings: Callable[..., Settings], make_png: Callable[..., bytes]
) -> None:
    app = create_app(tiny_settings(queued_jobs=2))
    with TestClient(app) as client:
        app.state.deconv.jobs.drain()  # nothing is claimed any more
        inputs = {"inputs": {"images": [{"id": upload(client, make_png())}]}}
        submit(client, OCCLUSION | inputs)
        submit(client, OCCLUSION | inputs)
        answer = client.post("/api/v1/jobs", json=OCCLUSION | inputs)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "30"


def test_a_method_registered_by_a_user_is_taken_by_the_interface(
    tiny_settings: Callable[..., Settings], make_png: Callable[..., bytes]
) -> None:
    from pydantic import Field

    from deconvnet import methods

    class Brightness(methods.Params):
        gain: float = Field(1.0, gt=0, le=10, description="Factor.")

    class Dummy(methods.Method):
        name = "dummy"
        title = "Brightness"
        source = "this test"
        explains = frozenset({"class"})
        needs_target = False
        Params = Brightness

        def explain(self, _net: Any, x: Any, params: Any, _run: Any) -> methods.Explanation:
            value = float(x.mean()) * params.gain
            pixels = np.zeros((4, 4, 3), np.uint8)
            return methods.Explanation({"map": np.zeros(2)}, {"heatmap": pixels}, {"v": value}, "")

    methods.register(Dummy())
    try:
        with TestClient(create_app(tiny_settings())) as client:
            listed = {one["name"]: one for one in client.get("/api/v1/methods").json()["items"]}
            assert listed["dummy"]["params"]["properties"]["gain"]["description"] == "Factor."
            assert "DummyJob" in client.get("/api/v1/openapi.json").json()["components"]["schemas"]
            inputs = {"images": [{"id": upload(client, make_png())}]}
            body = {"model": "tiny", "method": "dummy", "params": {"gain": 2}, "inputs": inputs}
            job = finish(client, submit(client, body)["id"])
            assert job["state"] == "succeeded", job
            refused = client.post("/api/v1/jobs", json=body | {"params": {"gain": 11}})
            assert refused.status_code == 422
    finally:
        methods.unregister("dummy")


def test_a_number_that_no_item_can_have_is_not_found(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    images = [{"id": upload(client, make_png())}]
    job = finish(client, submit(client, OCCLUSION | {"inputs": {"images": images}})["id"])
    for n in (-1, 1, 2**63, 10**30, 10**4000, "+0", "0_0", "0.0", "%200", "\uff10", "\u0660", "x"):
        for end in ("", "/heatmap.png"):
            answer = client.get(f"/api/v1/jobs/{job['id']}/items/{n}{end}")
            assert (answer.status_code, answer.json()["status"]) == (404, 404)


def test_a_result_that_the_client_has_is_not_sent_again(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    image = upload(client, make_png())
    body = OCCLUSION | {"inputs": {"images": [{"id": image}]}}
    job = finish(client, submit(client, body)["id"])
    item = f"/api/v1/jobs/{job['id']}/items/0"
    for url in (f"{item}/heatmap.png", f"{item}/map.npy", f"/api/v1/images/{image}.png"):
        etag = client.get(url).headers["ETag"]
        again = client.get(url, headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == etag
        assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"inputs": {"dataset": "pictures", "limit": 0}}, ["/inputs/limit"]),
        ({"inputs": {"images": []}}, ["/inputs/images"]),
        ({"inputs": {"images": [{"id": "a", "path": "/"}]}}, ["/inputs/images/0/path"]),
        ({"inputs": {"images": [{"id": "a"}], "dataset": "b"}}, ["/inputs/dataset"]),
        ({"inputs": 7}, ["/inputs"]),
        ({"inputs": {}}, ["/inputs/dataset"]),
        ({"method": "nothing"}, ["/method"]),
        ({"target": {"unit": "nonsense"}}, ["/target"]),
    ],
)
def test_what_is_wrong_with_a_body_is_pointed_at_and_nothing_else(
    client: TestClient, change: dict[str, Any], pointers: list[str]
) -> None:
    body = OCCLUSION | {"inputs": {"dataset": "pictures"}} | change
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == pointers
    assert "Value error" not in answer.text
    assert "union" not in answer.json()["detail"]
    assert ".." not in answer.json()["detail"]


def test_two_images_of_one_name_of_the_client_are_refused_and_both_are_named(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    image = upload(client, make_png())
    names = ("a", None, "b", None, "a")
    images = [{"id": image, "custom_id": name} for name in names]
    answer = client.post("/api/v1/jobs", json=OCCLUSION | {"inputs": {"images": images}})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/inputs/images/4/custom_id", "duplicate")
    assert "'a' of /inputs/images/4 is that of /inputs/images/0" in fault["detail"]


def test_the_form_numbers_files_of_one_name(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    form = {"method": "occlusion", "model": "tiny", "params.size": "8", "params.stride": "4"}
    files = [("files", ("a.png", make_png(colour))) for colour in ((1, 2, 3), (9, 9, 9))]
    answer = client.post("/jobs", data=form, files=files, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    job = answer.headers["Location"].rsplit("/", 1)[1]
    items = client.get(f"/api/v1/jobs/{job}/items").json()["items"]
    assert [item["custom_id"] for item in items] == ["a.png", "a.png (2)"]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ('"model": "zfnet64", "model": "tiny"', "'model' is there twice"),
        ('"model": "tiny", "params": {"size": 8, "stride": 4, "size": 16}', "'size' is there"),
        ('"model": "tiny", "timeout_s": NaN', "NaN is no number"),
        ('"model": "tiny", "timeout_s": -Infinity', "-Infinity is no number"),
        ('"model": "\\ud800"', "half a surrogate pair"),
        ('"model": "tiny", "metadata": {"\\uDfff": ""}', "half a surrogate pair"),
        ('"model": "tiny",', "property name"),
        ('"timeout_s": ' + "9" * 5000, "too many digits"),
        ('"params": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_body_that_two_programs_may_understand_in_two_ways_is_refused(
    client: TestClient, part: str, says: str
) -> None:
    rest = '"method": "occlusion", "inputs": {"dataset": "pictures", "limit": 1}'
    content = "{" + f"{rest}, {part}" + "}"
    answer = client.post("/api/v1/jobs", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:deconvnet:problem:bad_json")
    assert says in answer.json()["detail"]


def test_a_body_is_utf_8_with_or_without_a_mark(client: TestClient) -> None:
    text = json.dumps(DATASET)
    for encoding, status in {"utf-8": 202, "utf-8-sig": 202, "utf-16": 400, "utf-32": 400}.items():
        answer = client.post("/api/v1/jobs", content=text.encode(encoding), headers=JSON)
        assert answer.status_code == status, encoding
    assert "not UTF-8" in answer.json()["detail"]


def test_text_beyond_the_first_plane_is_text(client: TestClient) -> None:
    body = DATASET | {"metadata": {"\U0001f600": "\\ud800"}}
    made = client.post("/api/v1/jobs", content=json.dumps(body), headers=JSON).json()
    assert made["request"]["metadata"] == {"\U0001f600": "\\ud800"}


def test_a_fault_names_the_value_that_was_sent_and_what_was_expected(client: TestClient) -> None:
    for change, says in (
        ({"params": {"size": 0, "stride": 4}}, "greater than or equal to 1; it is 0"),
        ({"outputs": ["jpg"]}, "'png' or 'npy'; it is \"jpg\""),
        ({"timeout_s": "soon"}, "valid number"),
        ({"nothing": 1}, "There is nothing of this name; leave it out"),
        ({"metadata": {"a": "x" * 9999}}, "at most 256 characters"),
    ):
        body = OCCLUSION | {"inputs": {"dataset": "pictures"}} | change
        answer = client.post("/api/v1/jobs", json=body)
        assert answer.status_code == 422
        assert says in answer.json()["errors"][0]["detail"], answer.text
        assert len(answer.text) < 1000
    without = {name: one for name, one in OCCLUSION.items() if name != "method"}
    answer = client.post("/api/v1/jobs", json=without)
    assert answer.json()["errors"][0] == {
        "pointer": "/method", "code": "union_tag_not_found", "detail": "It is missing",
    }  # fmt: skip


def test_inputs_have_a_fingerprint_of_what_they_are_in_their_order(
    client: TestClient, make_png: Callable[..., bytes]
) -> None:
    one, other = (upload(client, make_png(colour)) for colour in ((1, 2, 3), (9, 9, 9)))
    found = []
    for ids in ([one, other], [other, one], [one, other]):
        images = [{"id": image, "custom_id": f"{n} {len(found)}"} for n, image in enumerate(ids)]
        job = submit(client, OCCLUSION | {"inputs": {"images": images}})
        found.append(job["fingerprints"]["inputs"])
    assert found[0] == found[2] != found[1]
