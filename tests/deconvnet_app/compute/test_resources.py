"""A dataset's files are decoded within the limits of uploads, by the one conversion."""

import html
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deconvnet.data.image import open_picture, to_rgb
from deconvnet_app.artifacts import sha256
from deconvnet_app.compute.resources import Resources, local_resources
from deconvnet_app.compute.spec import Origin, UnitError, UnitSpec
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings
from tests.deconvnet.data.test_image import CASES
from tests.deconvnet_app.imaging.test_decoder import many_scans

Make = Callable[..., Settings]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dataset")


@pytest.fixture
def resources(folder: Path, tiny_settings: Make) -> Iterator[Resources]:
    resources = local_resources(tiny_settings(datasets={"given": folder}))
    yield resources
    resources.close()


def spec(folder: Path, name: str, data: bytes) -> UnitSpec:
    (folder / name).write_bytes(data)
    origin = Origin(dataset="given", path=name)
    return UnitSpec(kind="predict", model="tiny", image=sha256(data), origin=origin)


def test_every_kind_of_picture_gives_the_pixels_of_the_one_conversion(
    resources: Resources, folder: Path
) -> None:
    tiff, ppm = io.BytesIO(), io.BytesIO()
    photo = Image.effect_noise((40, 30), 80).convert("RGB")
    photo.save(tiff, "TIFF", compression="tiff_lzw")
    photo.save(ppm, "PPM")
    files = {name: case[0] for name, case in CASES.items()}
    files |= {"tiff": tiff.getvalue(), "ppm": ppm.getvalue()}
    specs = [spec(folder, f"{n:03d}.png", data) for n, data in enumerate(files.values())]
    for (name, data), one in zip(files.items(), specs, strict=True):
        expected = np.asarray(to_rgb(open_picture(data)))
        np.testing.assert_array_equal(
            np.asarray(resources.image(one, str(one.image))), expected, err_msg=name
        )


@pytest.mark.parametrize("make", [many_scans, lambda: b"\x89PNG\r\n\x1a\n" + os.urandom(100)])
def test_a_file_that_cannot_be_taken_is_the_units_error(
    make: Callable[[], bytes], resources: Resources, folder: Path
) -> None:
    one = spec(folder, "bad.png", make())
    with pytest.raises(UnitError, match=r"'bad\.png'") as caught:
        resources.image(one, str(one.image))
    assert caught.value.status == 422
    assert not caught.value.fatal


def test_what_is_no_file_of_the_dataset_is_counted_and_never_opened(
    tiny_settings: Make, make_png: Callable[..., bytes], tmp_path: Path
) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    for name in ("a.png", "turns.png"):
        (root / name).write_bytes(make_png())
    os.mkfifo(root / "pipe.png")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "around").symlink_to(root)
    (tmp_path / "secret.png").write_bytes(make_png())
    body = {"model": "tiny", "method": "deconv", "target": {"unit": "conv2:1"}}
    with TestClient(create_app(tiny_settings(datasets={"odd": root}))) as client:
        (listed,) = client.get("/api/v1/datasets").json()["items"]
        assert (listed["count"], listed["skipped"]) == (2, 4)
        (root / "turns.png").unlink()
        os.mkfifo(root / "turns.png")  # opening it would wait for a writer
        answer = client.post(
            "/api/v1/jobs",
            json=body | {"inputs": {"dataset": "odd"}},
            headers={"Prefer": "wait=30"},
        )
        assert answer.json()["counts"] == {"total": 2, "succeeded": 1, "failed": 1, "skipped": 0}
        items = client.get(f"/api/v1/jobs/{answer.json()['id']}/items").json()["items"]
    assert [(one["path"], one["state"]) for one in items] == [
        ("a.png", "succeeded"),
        ("turns.png", "failed"),
    ]
    assert items[1]["error"]["code"] == "input_missing"


def test_a_file_that_changed_or_went_meanwhile_is_the_units_error(
    resources: Resources, folder: Path, make_png: Callable[..., bytes]
) -> None:
    one = spec(folder, "some.png", make_png())
    resources.image(one, str(one.image))
    (folder / "some.png").write_bytes(make_png((1, 2, 3)))
    with pytest.raises(UnitError, match="changed"):
        resources.image(one, str(one.image))
    (folder / "some.png").unlink()
    with pytest.raises(UnitError, match="not in 'given' any more"):
        resources.image(one, str(one.image))


@pytest.mark.parametrize("name", ["empty", "drawing", "broken", "incomplete", "wide", "foreign"])
def test_an_odd_file_has_one_verdict_in_the_same_words_wherever_it_comes_from(
    name: str, tiny_settings: Make, make_png: Callable[..., bytes], tmp_path: Path
) -> None:
    data = {
        "empty": b"",
        "drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "broken": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "incomplete": make_png(size=(64, 64))[:-60],
        "wide": make_png(size=(401, 4)),
        "foreign": b"PK\x03\x04" + bytes(100),
    }[name]
    root = tmp_path / "odd"
    root.mkdir()
    (root / "odd.png").write_bytes(data)
    settings = tiny_settings(datasets={"odd": root}, image_side=400)
    body = {"model": "tiny", "method": "deconv", "target": {"unit": "conv2:1"}}
    with TestClient(create_app(settings)) as client:
        upload = client.post("/api/v1/images", files={"file": ("odd.png", data)}).json()
        odd = {"file": ("odd.png", data)}
        page = client.post("/occlusion", data={"model": "tiny"}, files=odd)
        job = client.post(
            "/api/v1/jobs",
            json=body | {"inputs": {"dataset": "odd"}},
            headers={"Prefer": "wait=30"},
        ).json()
        (item,) = client.get(f"/api/v1/jobs/{job['id']}/items").json()["items"]
    assert page.status_code == upload["status"]
    assert html.escape(upload["detail"]).replace("&#x27;", "&#39;") in page.text
    assert upload["type"].rpartition(":")[2] == item["error"]["code"]
    assert item["error"]["detail"].replace(", TIFF, PPM", "") == upload["detail"]
