"""The occlusion page and the jobs pages: upload, maps, forms."""

import io
import json
import re

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deconvnet import methods
from deconvnet.data.image import SEVERAL_FRAMES
from deconvnet_app.urls import Urls, twin
from deconvnet_app.web.forms import make_fields, read_fields
from tests.support.server import png


def _upload(client: TestClient, data: bytes, name: str = "a.png") -> str:
    answer = client.post(
        Urls.OCCLUSION, files={"file": (name, data)}, data={"model": "tiny"}, follow_redirects=False
    )
    assert answer.status_code == 303, answer.text[:400]
    return answer.headers["location"].split("#")[0]


def test_an_upload_leads_to_its_maps(pages: TestClient) -> None:
    place = _upload(pages, png(size=(20, 30)))
    told = pages.get(twin(f"{place}&size=6&stride=3")).json()
    assert [panel["name"] for panel in told["result"]["panels"]] == [
        "image", "heatmap", "activity", "projection", "label",
    ]  # fmt: skip
    for panel in told["result"]["panels"]:
        assert pages.get(panel["picture"]["src"]).content.startswith(b"\x89PNG")
        assert panel["picture"]["provenance"].startswith("tiny")
    assert len(told["predictions"]) == 5


def test_an_occluder_fits_a_network_without_an_index(client: TestClient) -> None:
    place = _upload(client, png(size=(20, 30)))
    told = client.get(twin(place)).json()
    assert told["problem"] == ""
    size = next(field for field in told["fields"] if field["name"] == "size")
    assert int(size["value"]) == 4  # of 16 pixels


def test_what_a_conversion_left_out_is_said_on_the_pictures_page(pages: TestClient) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    moving, still = io.BytesIO(), io.BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    frames[0].save(still, "GIF")
    place = _upload(pages, moving.getvalue())
    address = f"{place}&size=6&stride=3"
    assert pages.get(twin(address)).json()["notes"] == [SEVERAL_FRAMES]
    assert f'<p class="note">{SEVERAL_FRAMES}</p>' in pages.get(address).text
    assert _upload(pages, still.getvalue()) == place
    assert pages.get(twin(address)).json()["notes"] == []


def test_maps_say_when_they_are_complete_and_stopping_them_then_changes_nothing(
    pages: TestClient,
) -> None:
    asked = {"model": "tiny", "image": "pictures/1", "size": 6, "stride": 3, "fill": "grey"}
    told = pages.get(twin(Urls.occlusion(**asked))).json()
    assert told["underway"]["said"] == "Complete"
    assert told["underway"]["done"] == told["underway"]["total"] == 49
    answer = pages.post(Urls.OCCLUSION_STOP, data=asked, follow_redirects=False)
    assert answer.status_code == 303
    place = answer.headers["location"].split("#")[0]
    assert pages.get(twin(place)).json()["result"] == told["result"]


def test_maps_that_were_stopped_before_they_began_can_be_gone_on_with(pages: TestClient) -> None:
    asked = {"model": "tiny", "image": "pictures/2", "size": 6, "stride": 3}
    told = pages.get(twin(Urls.occlusion(**asked, stopped=True))).json()
    assert told["result"] is None
    assert told["underway"]["said"] == "Stopped before the first map"
    went_on = pages.get(twin(told["underway"]["again"].split("#")[0])).json()
    assert went_on["underway"]["said"] == "Complete"


def test_a_heatmap_is_also_a_table(pages: TestClient) -> None:
    told = pages.get(
        twin(Urls.occlusion(model="tiny", image="pictures/1", size=6, stride=3))
    ).json()
    table = told["result"]["tables"][0]
    geometry = told["result"]["geometry"]
    assert len(table["rows"]) == geometry["rows"]
    assert {len(cells) for _, cells in table["rows"]} == {geometry["columns"]}
    assert table["rows"][0][0] == str(3 - 6)
    assert all(0 <= float(cell) <= 1 for _, cells in table["rows"] for cell in cells)
    shares = [row["meter"] for row in told["result"]["legend"]]
    assert sum(shares) == pytest.approx(1)


def test_another_class_can_be_followed(pages: TestClient) -> None:
    address = Urls.occlusion(model="tiny", image="pictures/1", size=6, stride=3, target=2)
    told = pages.get(twin(address)).json()
    assert told["result"]["target"] == 2
    assert told["result"]["panels"][1]["title"] == "P(cat)"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"size": 4, "stride": 8}, "stride"),
        ({"size": 400, "stride": 100}, "larger than the image"),
        ({"size": 6, "stride": 3, "target": 77}, "target"),
        ({"size": 6, "stride": 3, "fill": "plaid"}, "fill"),
    ],
)
def test_an_impossible_occluder_is_explained_on_the_page(
    pages: TestClient,
    query: dict[str, object],
    says: str,
) -> None:
    answer = pages.get(Urls.occlusion(model="tiny", image="pictures/1", **query))
    assert answer.status_code == 200
    problem = re.search(r'role="alert">([^<]*)<', answer.text)
    assert problem
    assert says in problem[1]


@pytest.mark.parametrize(
    ("data", "status"), [(b"not an image", 415), (b"", 422), (b"\x89PNG\r\n\x1a\nbroken", 422)]
)
def test_what_is_no_picture_is_refused_on_the_page(
    pages: TestClient,
    data: bytes,
    status: int,
) -> None:
    answer = pages.post(Urls.OCCLUSION, files={"file": ("a.png", data)}, data={"model": "tiny"})
    assert answer.status_code == status
    assert 'role="alert"' in answer.text
    assert 'id="file"' in answer.text


def test_a_file_name_is_never_markup(pages: TestClient) -> None:
    place = _upload(pages, png((1, 2, 3)), "<img src=x onerror=alert(1)>.png")
    assert "<img src=x" not in pages.get(f"{place}&size=6&stride=3").text


def _form(**changes: str) -> dict[str, str]:
    return {
        "method": "occlusion", "model": "tiny", "dataset": "pictures", "glob": "**", "limit": "3",
        "target": "", "params.size": "6", "params.stride": "3", "params.fill": "grey",
    } | changes  # fmt: skip


def _wait(client: TestClient, place: str) -> dict[str, object]:
    for _ in range(200):
        told = client.get(twin(place)).json()
        if told["row"]["tone"] != "busy":
            return told
    raise AssertionError(told["row"])


def test_the_form_makes_a_job_whose_page_shows_its_results(
    pages: TestClient,
) -> None:
    answer = pages.post(Urls.JOBS, data=_form(), follow_redirects=False)
    assert answer.status_code == 303
    told = _wait(pages, answer.headers["location"])
    assert told["row"]["state"] == "succeeded"
    assert [item["number"] for item in told["items"]] == [0, 1, 2]
    text = pages.get(answer.headers["location"]).text
    assert "results.jsonl" in text
    for item in told["items"]:
        assert pages.get(item["picture"]["src"]).status_code == 200


def test_uploaded_pictures_make_a_job(pages: TestClient) -> None:
    files = [("files", ("<b>.png", png())), ("files", ("two.png", png((9, 9, 99))))]
    answer = pages.post(Urls.JOBS, data=_form(), files=files, follow_redirects=False)
    told = _wait(pages, answer.headers["location"])
    assert [item["name"] for item in told["items"]] == ["<b>.png", "two.png"]
    assert "<b>.png" not in pages.get(answer.headers["location"]).text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "tinny"}, "tiny"),
        ({"params.size": "x"}, "size"),
        ({"params.stride": "9"}, "stride"),
        ({"dataset": ""}, "No images"),
        ({"glob": "*.xyz"}, "matches"),
        ({"method": "deconv", "target": ""}, "unit"),
        ({"method": "deconv", "target": "conv2"}, "conv2"),
    ],
)
def test_a_bad_form_comes_back_with_the_reason(
    pages: TestClient,
    changes: dict[str, str],
    says: str,
) -> None:
    answer = pages.post(Urls.JOBS, data=_form(**changes), follow_redirects=False)
    assert answer.status_code in (404, 422)
    problem = re.search(r'role="alert">([^<]*)<', answer.text)
    assert problem
    assert says in problem[1]
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("method", methods.names())
def test_the_curl_twin_is_a_body_that_the_interface_takes(
    pages: TestClient,
    method: str,
) -> None:
    told = pages.get(twin(Urls.jobs(method=method))).json()
    body = json.loads(told["curl"].split("-d '", 1)[1].removesuffix("'"))
    body["model"] = "tiny"
    if method == "occlusion":
        body["params"] |= {"size": 6, "stride": 3}
    answer = pages.post("/api/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    compile(told["python"], "twin", "exec")


def test_a_running_job_can_be_cancelled_from_its_page(pages: TestClient) -> None:
    place = pages.post(Urls.JOBS, data=_form(), follow_redirects=False).headers["location"]
    answer = pages.post(f"{place}/cancel", follow_redirects=False)
    assert answer.status_code == 303
    assert _wait(pages, place)["row"]["state"] in ("cancelled", "succeeded")


def test_a_schema_becomes_controls_and_back() -> None:
    schema = {
        "properties": {
            "size": {"type": "integer", "default": 8, "minimum": 1, "unit": "px", "title": "Size"},
            "rate": {"type": "number", "default": 0.5},
            "fill": {
                "anyOf": [{"enum": ["grey", "blur"]}, {"type": "string", "pattern": "^#"}],
                "default": "grey",
            },
            "mode": {"enum": ["a", "b"], "default": "b"},
            "deep": {"type": "boolean", "default": True},
        }
    }
    fields = {field.name: field for field in make_fields(schema, {"size": 4})}
    assert [field.kind for field in fields.values()] == [
        "number", "number", "select", "select", "checkbox",
    ]  # fmt: skip
    assert fields["size"].value == "4"
    assert fields["size"].unit == "px"
    assert [option.value for option in fields["fill"].options] == ["grey", "blur"]
    sent = {"size": "4", "rate": "0.25", "fill": "blur", "mode": "a"}
    assert read_fields(schema, sent) == {
        "size": 4, "rate": 0.25, "fill": "blur", "mode": "a", "deep": False,
    }  # fmt: skip
    assert read_fields(schema, {"size": "four"})["size"] == "four"
