"""Pages: complete without JavaScript, nothing inline, nothing foreign, each with its JSON twin."""

import json
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi.testclient import TestClient

from deconvnet.address import Unit
from deconvnet_app.settings import Settings
from deconvnet_app.urls import Urls, twin
from tests.support.server import bearing

UNIT = Urls.unit("tiny", Unit("conv2", 3))
LAYER = Urls.layer("tiny", "conv2")
ADDRESSES = [
    Urls.home(),
    Urls.home(seed=3),
    Urls.model("tiny"),
    LAYER,
    Urls.layer("tiny", "conv1", sort="selectivity", view="patches", size="l"),
    UNIT,
    Urls.unit("tiny", Unit("conv2", 3), rule="guided"),
    Urls.filters("tiny", "conv1"),
    Urls.filters("tiny", "conv2", scale="shared"),
    Urls.occlusion(),
    Urls.occlusion(model="tiny", image="pictures/1", size=6, stride=3),
    Urls.jobs(),
    Urls.jobs(method="occlusion"),
    Urls.REST,
]
JOB = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures", "limit": 1},
}


class _Tags(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def of(self, *names: str) -> Iterator[dict[str, str]]:
        return (attrs for tag, attrs in self.found if tag in names)


def _tags(client: TestClient, address: str) -> _Tags:
    answer = client.get(address)
    assert answer.status_code == 200, f"{address}: {answer.text[:500]}"
    return _Tags(answer.text)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_has_nothing_inline_and_nothing_of_another_host(
    pages: TestClient,
    address: str,
) -> None:
    tags = _tags(pages, address)
    assert not list(tags.of("style"))
    assert all(script["src"].startswith("/static/") for script in tags.of("script"))
    for tag, attrs in tags.found:
        assert "style" not in attrs, tag
        assert not any(name.startswith("on") for name in attrs), tag
        for name in ("src", "href", "action"):
            assert not urlsplit(attrs.get(name, "")).netloc, attrs[name]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_page_says_what_it_is(pages: TestClient, address: str) -> None:
    tags = _tags(pages, address)
    assert len(list(tags.of("h1"))) == 1
    assert len(list(tags.of("main"))) == 1
    assert next(tags.of("html"))["lang"] == "en"
    assert all("alt" in image for image in tags.of("img"))
    labelled = {label.get("for") for label in tags.of("label")}
    for control in tags.of("input", "select"):
        if control.get("type") != "hidden":
            assert control.get("id") in labelled or control["id"] == "keys-on", control
    ids = [attrs["id"] for _, attrs in tags.found if "id" in attrs]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_pages_twin_is_its_context(pages: TestClient, address: str) -> None:
    told = pages.get(twin(address))
    assert told.status_code == 200
    assert told.headers["content-type"] == "application/json"
    assert told.json()["title"] in pages.get(address).text
    assert pages.get(told.json()["url"]).status_code == 200


def test_every_link_and_every_picture_of_the_pages_is_there(
    pages: TestClient,
) -> None:
    waiting, seen = [(a, "") for a in ADDRESSES], set()
    while waiting and len(seen) < 250:
        address, source = waiting.pop(0)
        address = address.split("#")[0]
        if address in seen:
            continue
        seen.add(address)
        if any(name in address for name in ("/models/vgg", "/models/res", "/models/alex")):
            continue  # networks without weights here; what their pages say is tested below
        if any(name in address for name in ("/models/goog", "/models/squ", "/models/zf")):
            continue
        answer = pages.get(address)
        assert answer.status_code == 200, f"{source} → {address}: {answer.text[:300]}"
        if answer.headers["content-type"].startswith("text/html"):
            tags = _Tags(answer.text)
            for attrs in tags.of("a", "link", "img", "image", "script", "use"):
                target = attrs.get("href") or attrs.get("src") or ""
                if target and not target.startswith("#"):
                    waiting.append((urljoin(address, target), address))
        if address.startswith("/media/") and ".png" in address:
            assert answer.content.startswith(b"\x89PNG")
    assert any("/media/indexes/" in address for address in seen)


def test_every_answer_forbids_inline_script_and_style(pages: TestClient) -> None:
    for address in (Urls.home(), "/nothing-here", Urls.sprite("pictures", "conv1", 0, "")):
        policy = pages.get(address).headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy


def test_a_sprite_under_its_version_is_kept_for_a_year(pages: TestClient) -> None:
    tile = pages.get(twin(LAYER)).json()["units"][0]
    assert "immutable" in pages.get(tile["sheet"]["src"]).headers["cache-control"]
    stale = pages.get(tile["sheet"]["src"].split("?")[0])
    assert stale.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        (Urls.model("tinny"), "tiny"),
        (Urls.layer("tiny", "conv9"), "conv1"),
        (Urls.unit("tiny", Unit("conv2", 99)), "channels 0 to 5"),
        ("/models/tiny/units/conv2", "layer:channel"),
        (Urls.layer("tiny", "conv1", index="nope"), "pictures"),
        (Urls.occlusion(model="tiny", image="img_nope"), "Upload"),
        (Urls.occlusion(model="tiny", image="pictures/99999"), "99999"),
        (Urls.job("job_nope"), "job_nope"),
        (Urls.jobs(method="nope"), "nope"),
    ],
)
def test_a_wrong_address_is_a_page_that_names_it_and_the_way_out(
    pages: TestClient,
    address: str,
    hint: str,
) -> None:
    answer = pages.get(address)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert hint in answer.text
    assert 'href="/"' in answer.text
    told = pages.get(address, headers={"Accept": "application/json"})
    assert told.headers["content-type"] == "application/problem+json"


def test_what_a_page_is_told_is_never_markup(pages: TestClient) -> None:
    nasty = '"><script>alert(1)</script>'
    for address in (Urls.layer("tiny", "conv1", q=nasty), Urls.model(nasty.replace("/", ""))):
        assert "<script>alert" not in pages.get(address).text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("conv2:3", UNIT),
        (" conv2:3@1,1 ", UNIT),
        ("conv1", Urls.layer("tiny", "conv1")),
        ("tiny", Urls.model("tiny")),
        ("warm", Urls.layer("tiny", "conv2", q="warm", sort="selectivity")),
        ("", Urls.home()),
    ],
)
def test_search_leads_to_what_a_text_names(
    pages: TestClient,
    text: str,
    place: str,
) -> None:
    answer = pages.get(Urls.search(q=text), follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == place


def test_a_network_without_an_index_shows_its_diagram_and_how_to_index_it(
    client: TestClient,
) -> None:
    answer = client.get(Urls.model("tiny"), headers={"Accept": "text/html"})
    assert answer.status_code == 200
    assert "deconvnet index tiny" in answer.text
    home = client.get("/", headers={"Accept": "text/html"})
    assert home.status_code == 200
    assert "deconvnet demo" in home.text


def test_the_twin_of_a_model_lists_landmarks_in_order(pages: TestClient) -> None:
    told = pages.get(twin(Urls.model("tiny"))).json()
    assert [stage["name"] for stage in told["stages"]] == ["conv1", "conv2"]
    assert [stage["shape"] for stage in told["stages"]] == ["4 × 16 × 16", "6 × 8 × 8"]
    assert json.dumps(told)


def test_a_number_that_is_none_is_nobodys_fault_but_the_askers(pages: TestClient) -> None:
    params = {"size": 8, "stride": 8}
    body = {"model": "tiny", "method": "occlusion", "params": params}
    body |= {"inputs": {"dataset": "pictures", "limit": 1}}
    job = pages.post("/api/v1/jobs", json=body).json()["id"]
    form = {"model": "tiny", "method": "deconv", "dataset": "pictures", "limit": "1"}
    form |= {f"params.{name}": str(value) for name, value in params.items()}
    for number in ("²", "9" * 30, "9" * 5000, "1e9"):
        answers = [
            pages.get(Urls.layer("tiny", "conv1", q=number)),
            pages.get(Urls.jobs(before=number)),
            pages.get(Urls.job(job, after=number)),
            pages.get(Urls.occlusion(model="tiny", image=f"pictures/{number}")),
            pages.post(Urls.JOBS, data=form | {"target": number}),
        ]
        assert {answer.status_code for answer in answers[1:]} <= {404, 422}, number
        assert answers[0].status_code < 500
    for limit in ("²", "1e9", "9" * 5000):  # not a job over the whole dataset
        assert (
            pages.post(Urls.JOBS, data=form | {"target": "conv2:1", "limit": limit}).status_code
            == 422
        )


def test_no_page_says_where_the_servers_files_lie(
    pages: TestClient, tmp_path: Path, image_folder: Path, tiny_index: Path
) -> None:
    made = pages.post("/api/v1/jobs", json=JOB).json()["id"]
    for address in (*ADDRESSES, Urls.job(made), "/api/v1/openapi.json", "/api/v1/indexes"):
        text = pages.get(address).text
        for folder in (tmp_path, image_folder.parent, tiny_index.parent):
            assert str(folder) not in text, address
    assert "Bearer $DECONVNET_TOKEN" in pages.get(Urls.jobs()).text


def test_what_an_index_lacks_is_told_without_its_folder(
    pages: TestClient, image_folder: Path
) -> None:
    answer = pages.get("/media/indexes/pictures/images/99999.png")
    assert answer.status_code == 404
    assert "keeps no picture of image 99999" in answer.text
    assert str(image_folder.parent) not in answer.text
    assert "/tmp" not in answer.text


def test_a_part_of_a_pages_file_is_the_whole(pages: TestClient) -> None:
    for address in ("/static/css/tokens.css", Urls.sprite("pictures", "conv1", 0, "")):
        whole = pages.get(address)
        for part in ("bytes=5-2", "bytes=99999999-", "bytes=0-1"):
            answer = pages.get(address, headers={"Range": part})
            assert (answer.status_code, answer.content) == (200, whole.content)


def test_an_indexed_picture_that_is_damaged_is_told(
    tiny_settings: Callable[..., Settings], tiny_index: Path, tmp_path: Path
) -> None:
    index = tmp_path / "pictures"
    shutil.copytree(tiny_index, index)
    with bearing(tiny_settings(indexes={"pictures": index}, auth=True)) as client:
        address = Urls.occlusion(model="tiny", image="pictures/0")
        assert client.get(address).status_code == 200
        for picture in (index / "images").rglob("*.png"):
            picture.write_bytes(picture.read_bytes()[:10])
        answer = client.get(address)
        assert answer.status_code == 503
        assert "of image 0 in index 'pictures' is damaged" in answer.json()["detail"]
