"""What a network can never do is refused when it is asked for, with the range and the remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from torch import nn
from typer.testing import CliRunner

import deconvnet as dn
from deconvnet import methods
from deconvnet.errors import DeconvnetError
from deconvnet.graph.describe import describe
from deconvnet.methods import Target
from deconvnet_app.cli.main import app as command_line
from deconvnet_app.compute.spec import UnitSpec
from deconvnet_app.main import create_app
from deconvnet_app.services import jobs
from deconvnet_app.settings import Settings

INPUTS = {"inputs": {"dataset": "pictures", "limit": 1}}
SMALL = {"size": 8, "stride": 4}  # the network takes 16×16 pixels and tells five classes apart


def submitted(client: TestClient, method: str, **body: Any) -> Any:
    return client.post("/api/v1/jobs", json={"model": "tiny", "method": method, **INPUTS, **body})


@pytest.mark.parametrize(
    ("method", "body", "pointer", "code", "says"),
    [
        ("occlusion", {"params": SMALL, "target": {"class": 5}}, "/target/class", "out_of_range",
         "class is 5, but tiny tells 5 classes apart; expected 0 to 4, or no target"),
        ("occlusion", {"params": SMALL, "target": {"class": 10**18}}, "/target/class",
         "out_of_range", "expected 0 to 4"),
        ("occlusion", {"params": {"size": 17, "stride": 4}}, "/params/size", "out_of_range",
         "size is 17, larger than the image of 16×16 pixels that tiny takes; expected 1 to 16"),
        ("occlusion", {"params": SMALL, "target": {"unit": "conv9:1"}}, "/target/unit",
         "unknown_unit", "Layer 'conv9' is not in tiny; nearest: conv2, conv1"),
        ("occlusion", {"params": SMALL, "target": {"unit": "conv2:1@3,4"}}, "/target/unit",
         "wrong_kind", "give 'conv2:1' instead of 'conv2:1@3,4'"),
        ("deconv", {"target": {"unit": "conv9:1"}}, "/target/unit", "unknown_unit", "nearest"),
        ("guided", {"target": {"unit": "conv2:6"}}, "/target/unit", "unknown_unit",
         "layer 'conv2' of tiny has channels 0 to 5"),
        ("gradient", {"target": {"unit": "conv2:1@8,0"}}, "/target/unit", "unknown_unit",
         "whose map is 8×8; expected y from 0 to 7 and x from 0 to 7, or no position"),
        ("deconv", {"target": {"unit": "fc:5"}}, "/target/unit", "unknown_unit", "0 to 4"),
    ],
)  # fmt: skip
def test_a_job_that_no_image_can_make_succeed_is_not_taken(
    client: TestClient, method: str, body: dict[str, Any], pointer: str, code: str, says: str
) -> None:
    answer = submitted(client, method, **body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["code"]) == (pointer, code)
    assert says in fault["detail"]
    assert fault["detail"] in answer.json()["detail"]
    assert client.get("/api/v1/jobs").json()["items"] == []


def test_everything_that_does_not_fit_is_told_at_once(client: TestClient) -> None:
    target = {"class": 7, "unit": "conv1:4"}
    answer = submitted(client, "occlusion", params={"size": 64, "stride": 8}, target=target)
    pointers = [fault["pointer"] for fault in answer.json()["errors"]]
    assert pointers == ["/target/class", "/target/unit", "/params/size"]


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("occlusion", {"params": SMALL, "target": {"class": 4}}),
        ("occlusion", {"params": {"size": 16, "stride": 16}}),
        ("occlusion", {"params": SMALL, "target": {"unit": "fc:4"}}),
        ("deconv", {"target": {"unit": "conv2:5@7,7"}}),
        ("deconv", {"target": {"unit": "fc:4@0,0"}}),
    ],
)
def test_the_last_of_what_there_is_is_taken_and_computed(
    client: TestClient, method: str, body: dict[str, Any]
) -> None:
    wait = {"Prefer": "wait=30"}
    answer = client.post(
        "/api/v1/jobs", json={"model": "tiny", "method": method, **INPUTS, **body}, headers=wait
    )
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded"), answer.text


def test_a_network_that_comes_with_the_program_is_known_as_well(client: TestClient) -> None:
    answer = submitted(client, "occlusion", model="zfnet64", target={"class": 200})
    assert answer.status_code == 422
    assert "zfnet64 tells 200 classes apart; expected 0 to 199" in answer.json()["detail"]


def test_what_a_worker_told_of_a_network_is_kept_before_there_is_any_file(
    tiny_settings: Callable[..., Settings],
) -> None:
    app = create_app(tiny_settings())
    with TestClient(app) as client:
        assert submitted(client, "deconv", target={"unit": "conv9:1"}).status_code == 422
        assert not app.state.deconv.artifacts.root.exists()
        described = UnitSpec(kind="describe", model="tiny")
        assert app.state.deconv.compute.cached(described) is not None


def test_a_network_that_is_not_described_in_time_does_not_hold_a_job_back(
    tiny_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LOADING_S", 0.0)
    with TestClient(create_app(tiny_settings())) as client:
        assert submitted(client, "deconv", target={"unit": "conv9:1"}).status_code == 202


def test_the_form_says_the_same_and_keeps_what_was_typed(pages: TestClient) -> None:
    form = {"method": "occlusion", "model": "tiny", "dataset": "pictures", "limit": "1"}
    form |= {"target": "5", "params.size": "8", "params.stride": "4", "params.fill": "grey"}
    answer = pages.post("/jobs", data=form)
    assert answer.status_code == 422
    assert "tiny tells 5 classes apart; expected 0 to 4" in answer.text
    assert 'value="5"' in answer.text


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["occlude", "--class", "200"], "expected 0 to 199"),
        (["explain", "occlusion", "--size", "65"], "larger than the image of 64×64 pixels"),
        (["explain", "deconv", "--unit", "conv5:160"], "channels 0 to 159"),
    ],
)
def test_commands_say_it_too(
    asked: list[str], says: str, tmp_path: Path, make_png: Callable[..., bytes]
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(make_png())
    count = 2 if asked[0] == "explain" else 1
    arguments = [*asked[:count], "zfnet64", str(photo), *asked[count:], "--out", str(tmp_path)]
    result = CliRunner().invoke(command_line, arguments)
    assert result.exit_code != 0
    assert says in str(result.exception) + result.output


CONVOLVED = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
CLASSIFIER = nn.Sequential(*CONVOLVED, nn.Flatten(), nn.Linear(256, 3), nn.Softmax(1))
SMOOTH = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU())
VECTORS = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.mark.parametrize(
    ("module", "method", "target", "place", "says"),
    [
        (CLASSIFIER, "deconv", {"unit": "4:1"}, "target/unit", "no way down by the rule 'deconv'"),
        (SMOOTH, "guided", {"unit": "1:1"}, "target/unit", "Take gradient, or project from"),
        (CONVOLVED, "occlusion", {}, "method", "occlusion needs a classifier"),
        (VECTORS, "occlusion", {}, "target", "no landmark with a map"),
    ],
)
def test_what_kind_a_network_is_decides_as_well_and_python_is_told_the_same(
    module: nn.Module, method: str, target: dict[str, str], place: str, says: str
) -> None:
    net = dn.trace(module, input_size=(3, 8, 8))
    asked, chosen = methods.get(method), {"size": 4, "stride": 4} if method == "occlusion" else {}
    aim = Target.model_validate(target)
    (misfit,) = asked.misfits(describe(net), aim, asked.parse(chosen))
    assert (misfit.place, misfit.code) == (place, "wrong_kind")
    assert says in str(misfit.error)
    with pytest.raises(DeconvnetError) as raised:
        asked.run(net, torch.rand(1, 3, 8, 8), aim, chosen)
    assert str(raised.value).startswith(str(misfit.error))
