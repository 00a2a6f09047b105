"""The rest of the interface: what there is, and what every answer carries."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings


def test_the_root_tells_limits_and_links_that_all_answer(client: TestClient) -> None:
    root = client.get("/api/v1").json()
    assert root["limits"]["file_bytes"] == 20 * 1024 * 1024
    for url in root["links"].values():
        assert client.get(url).status_code == 200, url
    assert client.get("/livez").json() == client.get("/readyz").json() == {"status": "ok"}


def test_an_own_network_is_described_by_a_worker(client: TestClient) -> None:
    names = [model["name"] for model in client.get("/api/v1/models").json()["items"]]
    assert {"tiny", "zfnet64", "vgg16"} <= set(names)
    described = client.get("/api/v1/models/tiny").json()
    assert described["description"]["classes"] == ["ant", "bee", "cat", "dog", "elk"]
    layers = client.get("/api/v1/models/tiny/layers?limit=2")
    assert [layer["name"] for layer in layers.json()["items"]] == ["conv1", "conv2"]
    assert layers.json()["next_cursor"]
    unit = client.get("/api/v1/models/tiny/units/conv2:3").json()
    assert unit["layer"]["shape"][0] == 6


def test_a_network_without_weights_has_its_layers_all_the_same(client: TestClient) -> None:
    told = client.get("/api/v1/models/zfnet").json()
    assert "deconvnet serve --weights zfnet=path/to/file" in told["missing"]
    assert (told["description"]["weights"], told["description"]["weights_hash"]) == (None, "")
    layers = client.get(told["links"]["layers"]).json()["items"]
    assert [one["name"] for one in layers][:5] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert client.get("/api/v1/models/zfnet/units/conv5:255").status_code == 200
    assert client.get("/api/v1/models/zfnet/units/conv5:256").status_code == 404
    assert client.get("/api/v1/models/tiny").json()["missing"] == ""


def test_what_does_not_exist_is_a_problem_that_names_the_nearest(client: TestClient) -> None:
    cases = {
        "/api/v1/models/tinny": "nearest: tiny",
        "/api/v1/models/tiny/units/conv3:1": "nearest: conv",
        "/api/v1/models/tiny/units/conv2:6": "has channels 0 to 5",
        "/api/v1/models/tiny/units/conv2:5@8,0": "whose map is 8×8",
        "/api/v1/models/tiny/units/nonsense": "nonsense",
        f"/api/v1/models/tiny/units/conv2:{'9' * 5000}": "is not a unit",
        "/api/v1/datasets/picture/images": "nearest: pictures",
        "/api/v1/indexes/none": "unknown",
        "/api/v1/nowhere": "",
    }
    for url, hint in cases.items():
        answer = client.get(url)
        assert answer.status_code == 404, url
        assert answer.headers["Content-Type"] == "application/problem+json"
        told = answer.json()
        assert hint in told["detail"], told
        assert told["instance"] == url
        assert told["request_id"] == answer.headers["X-Request-Id"]
    assert client.delete("/api/v1/models").status_code == 405


def test_a_dataset_lists_its_images_in_order(client: TestClient) -> None:
    listed = client.get("/api/v1/datasets").json()["items"]
    assert [(one["id"], one["count"], one["labels"]) for one in listed] == [
        ("pictures", 24, ["cold", "warm"])
    ]
    page = client.get("/api/v1/datasets/pictures/images?limit=3").json()
    assert [one["path"] for one in page["items"]] == [f"cold/{n:02d}.png" for n in (1, 3, 5)]


def test_every_answer_carries_the_safe_headers(client: TestClient) -> None:
    for url in ("/", "/api/v1", "/nowhere", "/api/v1/models/none"):
        headers = client.get(url).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"], url
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_another_sites_page_cannot_make_a_browser_change_anything(client: TestClient) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        answer = client.post("/api/v1/jobs", json={}, headers=headers)
        assert answer.status_code == 403
    own = client.post("/api/v1/jobs", json={}, headers={"Origin": "http://testserver"})
    assert own.status_code == 422


def test_a_body_over_the_limit_is_refused_announced_or_not(
    tiny_settings: Callable[..., Settings],
) -> None:
    with TestClient(create_app(tiny_settings(request_bytes=1000))) as client:
        announced = client.post("/api/v1/images", files={"file": ("a.png", b"x" * 2000)})
        chunks = (b"x" * 100 for _ in range(20))
        streamed = client.post(
            "/api/v1/jobs", content=chunks, headers={"Content-Type": "application/json"}
        )
    for answer in (announced, streamed):
        assert answer.status_code == 413
        assert answer.json()["type"].endswith("body_too_large")


@pytest.mark.parametrize("url", ["/", "/api/v1/models", "/livez", "/static/nothing", "/nowhere"])
def test_head_is_get_without_the_body(client: TestClient, url: str) -> None:
    got, head = client.get(url), client.head(url)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("Content-Type", "Content-Security-Policy"):
        assert head.headers[name] == got.headers[name]
    assert client.head("/api/v1/images").status_code == 405
