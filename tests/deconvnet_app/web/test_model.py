"""A network without weights: its architecture is shown, and how to give them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import save_file

from deconvnet.address import Unit
from deconvnet_app.settings import Settings
from deconvnet_app.urls import Urls, twin
from tests.support.server import bearing


def _asked(settings: Settings) -> TestClient:
    return bearing(settings, Accept="text/html,*/*;q=0.8")


@pytest.fixture
def bare(tiny_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[TestClient]:
    """The application; the weights of its network "tiny" are a file that is not there."""
    with _asked(tiny_settings(weights={"tiny": str(tmp_path / "w.safetensors")})) as client:
        yield client


def test_its_page_is_its_architecture_with_the_remedy(bare: TestClient) -> None:
    answer = bare.get(Urls.model("tiny"))
    assert answer.status_code == 200
    assert "No weights here" in answer.text
    assert "deconvnet serve --weights tiny=path/to/file" in answer.text
    assert "deconvnet index" not in answer.text
    assert Urls.filters("tiny", "conv1") not in answer.text
    told = bare.get(twin(Urls.model("tiny"))).json()
    assert "w.safetensors" in told["no_weights"]
    stages = [(s["name"], s["shape"], s["receptive_field"], s["jump"]) for s in told["stages"]]
    assert stages == [("conv1", "4 × 16 × 16", 3, 1), ("conv2", "6 × 8 × 8", 8, 2)]
    assert {row["node"] for row in told["others"]} >= {"pool1", "relu2", "fc"}
    assert told["card"]["weights"] == "none here"


def test_weights_of_another_network_are_none(
    tiny_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, file)
    with _asked(tiny_settings(weights={"tiny": str(file)})) as client:
        told = client.get(twin(Urls.model("tiny"))).json()
    assert "w.safetensors" in told["no_weights"]
    assert [stage["name"] for stage in told["stages"]] == ["conv1", "conv2"]


def test_a_network_whose_file_is_gone_has_no_architecture_either(
    tiny_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    with _asked(tiny_settings(models={"own": f"{tmp_path}/net.py:build"})) as client:
        answer = client.get(Urls.model("own"))
    assert answer.status_code == 422
    assert "deconvnet serve --model own=" in answer.text


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (Urls.layer("tiny", "conv1"), 404),
        (Urls.unit("tiny", Unit("conv1", 0)), 404),
        (Urls.filters("tiny", "conv1"), 422),
    ],
)
def test_pages_that_need_weights_are_refused_with_the_remedy(
    bare: TestClient, address: str, status: int
) -> None:
    answer = bare.get(address)
    assert answer.status_code == status
    assert "--weights tiny=path/to/file" in answer.text


def test_its_occlusion_says_the_remedy(bare: TestClient, make_png: Callable[..., bytes]) -> None:
    sent = bare.post(Urls.OCCLUSION, files={"file": ("a.png", make_png())}, data={"model": "tiny"})
    assert sent.status_code == 200
    assert "--weights tiny=path/to/file" in sent.text


def test_the_start_page_tells_such_networks_apart(bare: TestClient) -> None:
    told = bare.get(twin(Urls.home())).json()
    assert Urls.model("tiny") in [link["url"] for link in told["bare"]]
    assert "zfnet" in [link["label"] for link in told["bare"]]
    assert "zfnet64" in [link["label"] for link in told["others"]]
    assert "--weights" in bare.get(Urls.home()).text


def test_weights_given_later_make_it_whole(
    bare: TestClient, tmp_path: Path, tiny_model: str
) -> None:
    bare.get(Urls.model("tiny"))
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    exec(Path(tiny_model.removesuffix(":build")).read_text(), namespace)
    build = namespace["build"]
    assert callable(build)
    save_file(build().state_dict(), tmp_path / "w.safetensors")
    told = bare.get(twin(Urls.model("tiny"))).json()
    assert told["no_weights"] == ""
    assert told["card"]["weights"].startswith("w.safetensors ")
    assert told["stages"][0]["filters_url"]
