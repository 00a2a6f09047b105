"""The interface's promises about HTTP itself: parts of files, ETags, methods, limits."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deconvnet_app.errors import MOST_FAULTS
from deconvnet_app.http.files import matches
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings


@pytest.fixture
def stored(client: TestClient, make_png: Callable[..., bytes]) -> tuple[str, bytes]:
    """A kept picture's address and bytes."""
    made = client.post("/api/v1/images", files={"file": ("a.png", make_png())}).json()
    url = str(made["links"]["png"])
    return url, client.get(url).content


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-7", 0, 8),
        ("bytes=5-", 5, None),
        ("bytes=-4", -4, None),
        ("bytes=2-99999", 2, None),
    ],
)
def test_a_part_of_a_file_is_206(
    client: TestClient, stored: tuple[str, bytes], asked: str, first: int, last: int | None
) -> None:
    url, whole = stored
    part = client.get(url, headers={"Range": asked})
    assert (part.status_code, part.content) == (206, whole[first:last])
    start = first % len(whole)
    end = start + len(part.content) - 1
    assert part.headers["Content-Range"] == f"bytes {start}-{end}/{len(whole)}"
    assert part.headers["ETag"] == client.get(url).headers["ETag"]
    head = client.head(url, headers={"Range": asked})
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(whole)))


def test_parts_that_are_not_there_are_left_out_of_several(
    client: TestClient, stored: tuple[str, bytes]
) -> None:
    url, whole = stored
    part = client.get(url, headers={"Range": "bytes=0-3, 99999-"})
    assert (part.status_code, part.content) == (206, whole[:4])


@pytest.mark.parametrize("asked", ["bytes=99999-", "bytes=-0"])
def test_a_part_that_is_not_there_is_a_problem(
    client: TestClient, stored: tuple[str, bytes], asked: str
) -> None:
    url, whole = stored
    answer = client.get(url, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"


@pytest.mark.parametrize(
    "asked",
    [
        "pages=1-2",
        "bytes",
        "bytes=x-y",
        "bytes=7-3",
        "bytes=",
        "bytes=" + "0-1," * 20 + "0-1",
        "bytes=-" + "9" * 5000,
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_a_range_that_cannot_be_read_is_left_aside(
    client: TestClient, stored: tuple[str, bytes], asked: str
) -> None:
    url, whole = stored
    answer = client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, whole)


def test_a_part_of_another_file_than_the_clients_is_the_whole(
    client: TestClient, stored: tuple[str, bytes]
) -> None:
    url, whole = stored
    etag = client.get(url).headers["ETag"]
    for known, status in {etag: 206, '"another"': 200}.items():
        answer = client.get(url, headers={"Range": "bytes=0-3", "If-Range": known})
        assert answer.status_code == status
        assert answer.content == (whole[:4] if status == 206 else whole)


@pytest.mark.parametrize(
    ("sent", "same"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"ab"', False),
        (None, False),
    ],
)
def test_an_etag_is_compared_whole_and_weakly(sent: str | None, same: bool) -> None:
    assert matches(sent, '"a"') is same


@pytest.mark.parametrize(
    ("method", "url", "allowed"),
    [
        ("PUT", "/api/v1/jobs", "GET, POST, HEAD"),
        ("OPTIONS", "/api/v1/jobs/job_0", "GET, DELETE, HEAD"),
        ("GET", "/api/v1/images", "POST"),
        ("DELETE", "/api/v1", "GET, HEAD"),
        ("PUT", "/static/css/tokens.css", "GET, HEAD"),
    ],
)
def test_a_method_that_an_address_does_not_take_is_a_problem_that_tells_which_it_takes(
    client: TestClient, method: str, url: str, allowed: str
) -> None:
    answer = client.request(method, url)
    assert answer.status_code == 405
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Allow"] == allowed


BODY = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures"},
}


def test_an_upload_may_be_larger_than_what_is_parsed_at_one_go(
    tiny_settings: Callable[..., Settings], make_png: Callable[..., bytes]
) -> None:
    with TestClient(create_app(tiny_settings(json_bytes=50))) as client:
        answer = client.post("/api/v1/images", files={"file": ("a.png", make_png())})
    assert answer.status_code == 201, answer.text


def test_of_many_wrong_inputs_the_first_is_told(client: TestClient) -> None:
    images = [{"id": "img_0"}, *({"name": str(n)} for n in range(1000))]
    answer = client.post("/api/v1/jobs", json=BODY | {"inputs": {"images": images}})
    assert answer.status_code == 422
    assert {one["pointer"] for one in answer.json()["errors"]} == {
        "/inputs/images/1/id",
        "/inputs/images/1/name",
    }


def test_what_is_not_there_tells_where_to_look(client: TestClient) -> None:
    answer = client.get("/api/v1/{nothing}")
    assert answer.status_code == 404
    assert "nothing at /api/v1/{nothing}. GET /api/v1 lists" in answer.json()["detail"]
    answer = client.patch("/api/v1/jobs")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST, HEAD")
    assert "does not take this method" in answer.json()["detail"]


def test_every_error_is_a_problem_whatever_the_client_would_rather_have(
    client: TestClient,
) -> None:
    cases: list[tuple[str, str, dict[str, Any], int]] = [
        ("GET", "/api/v1/jobs/job_0", {}, 404),
        ("GET", "/api/v1/jobs?limit=0", {}, 422),
        ("POST", "/api/v1/jobs", {"content": b"{"}, 422),
        ("POST", "/api/v1/images", {"content": b"x"}, 415),
        ("POST", "/api/v1/images", {"data": {"file": "x"}}, 415),
        ("POST", "/api/v1/images", {"files": {"fyle": b"x"}}, 422),
        ("POST", "/api/v1/images", {"headers": {"Content-Type": "multipart/form-data"}}, 400),
        ("GET", "/api/v1/models", {"headers": {"Authorization": "Bearer no"}}, 401),
        ("GET", "/api/v1/models", {"headers": {"Host": "evil.example"}}, 400),
    ]
    for accept in ("text/html", "application/xml", "*/*"):
        for method, url, given, status in cases:
            headers = {"Accept": accept, **given.get("headers", {})}
            answer = client.request(method, url, **{**given, "headers": headers})
            assert answer.status_code == status, (method, url, answer.text)
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["status"] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://testserver.evil.example"}, 403),
        ({"Origin": "HTTP://TestServer"}, 422),  # its own page's; the body is what is wrong
        ({"Content-Length": "2", "Transfer-Encoding": "chunked"}, 400),
        ({f"X-{n}": "a" * 1000 for n in range(70)}, 431),
        ({f"X-{n}": "" for n in range(9000)}, 431),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "identity"}, 422),
    ],
)
def test_a_head_that_cannot_be_trusted_is_refused(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/api/v1/jobs", content=b"{}", headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.headers.get("Connection") == "close") == (status == 400)


def test_of_very_many_faults_the_first_are_told_in_short(client: TestClient) -> None:
    body = BODY | {f"a/{n}~": "x" * 1000 for n in range(900)} | {"k" * 100_000: 1}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == MOST_FAULTS
    assert "/a~10~0" in {one["pointer"] for one in answer.json()["errors"]}
    long = client.post("/api/v1/jobs", json=BODY | {"method": "y" * 100_000, "z" * 100_000: 1})
    assert long.status_code == 422
    assert max(len(answer.content), len(long.content)) < 50_000


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
@pytest.mark.parametrize(
    ("url", "part"), [("/api/v1/images", "file"), ("/jobs", "files"), ("/occlusion", "picture")]
)
def test_a_body_that_finds_no_room_in_temporary_files_is_507(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, url: str, part: str
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: FULL.open("w+b"))
    form = {"model": "tiny", "method": "occlusion"}
    answer = client.post(url, data=form, files={part: ("a.png", b"x" * 3_000_000)})
    assert answer.status_code == 507, answer.text
    assert answer.json()["type"] == "urn:deconvnet:problem:storage_full"


def test_a_list_that_is_too_long_is_not_read_to_its_end(
    tiny_settings: Callable[..., Settings],
) -> None:
    images = [{"id": "img_0"}] * 3 + [{"id": 7}]  # what comes after the limit is not looked at
    with TestClient(create_app(tiny_settings(job_inputs=2))) as client:
        spec = client.get("/api/v1/openapi.json").json()["components"]["schemas"]
        assert spec["ImagesInput"]["properties"]["images"]["maxItems"] == 2
        answer = client.post("/api/v1/jobs", json=BODY | {"inputs": {"images": images}})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["code"]) == ("/inputs/images", "too_long")


@pytest.mark.parametrize("last", ["k0", "k"])
def test_an_object_of_very_many_names_is_refused_unread(client: TestClient, last: str) -> None:
    names = ",".join(f'"k{n}": 1' for n in range(200_000))
    answer = client.post(
        "/api/v1/jobs",
        content=f'{{{names}, "{last}": 1}}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert "an object has 200001 names" in answer.json()["detail"]


@pytest.mark.parametrize("outputs", [["exe"] * 100_000, ["png"] * 100_000, ["npy", "npy"]])
def test_of_outputs_that_cannot_be_the_first_fault_is_told(
    client: TestClient, outputs: list[str]
) -> None:
    answer = client.post("/api/v1/jobs", json=BODY | {"outputs": outputs})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] in ("/outputs", "/outputs/0")
