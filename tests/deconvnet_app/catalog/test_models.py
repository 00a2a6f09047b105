"""A job on a network that cannot be loaded is refused when it is submitted, with the remedy."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import save_file

from deconvnet import methods
from deconvnet_app.catalog.models import why_unloadable
from deconvnet_app.main import create_app
from deconvnet_app.services import jobs
from deconvnet_app.services.job_views import request_of
from deconvnet_app.settings import Settings

BODY = {
    "model": "tiny",
    "method": "deconv",
    "target": {"unit": "conv2:1"},
    "inputs": {"dataset": "pictures", "limit": 1},
}


def refused(settings: Settings, model: str) -> str:
    """The detail of the refusal."""
    with TestClient(create_app(settings)) as client:
        answer = client.post("/api/v1/jobs", json=BODY | {"model": model})
        assert answer.status_code == 422, answer.text
        assert [one["pointer"] for one in answer.json()["errors"]] == ["/model"]
        assert client.get("/api/v1/jobs").json()["items"] == []
    return str(answer.json()["detail"])


def test_a_network_of_the_zoo_without_weights(tiny_settings: Callable[..., Settings]) -> None:
    detail = refused(tiny_settings(), "zfnet")
    assert "comes without weights" in detail
    assert "deconvnet serve --weights zfnet=path/to/file" in detail


def test_weights_that_are_not_there_are_named_without_their_folder(
    tiny_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    detail = refused(tiny_settings(weights={"tiny": str(tmp_path / "w.safetensors")}), "tiny")
    assert "w.safetensors" in detail
    assert str(tmp_path) not in detail


@pytest.mark.parametrize("content", ["noise", "another network's"])
def test_weights_that_a_worker_cannot_use(
    tiny_settings: Callable[..., Settings], tmp_path: Path, content: str
) -> None:
    file = tmp_path / "w.safetensors"
    if content == "noise":
        file.write_bytes(b"\xff" * 100)
    else:
        save_file({"conv1.weight": torch.zeros(1)}, file)
    detail = refused(tiny_settings(weights={"tiny": str(file)}), "tiny")
    assert "w.safetensors" in detail
    assert str(tmp_path) not in detail


def test_a_file_of_a_network_that_is_gone(
    tiny_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    detail = refused(tiny_settings(models={"own": f"{tmp_path}/net.py:build"}), "own")
    assert "net.py" in detail
    assert str(tmp_path) not in detail


def test_networks_that_may_load_pass(tiny_settings: Callable[..., Settings]) -> None:
    settings = tiny_settings()
    for model in ("tiny", "zfnet64", "vgg16"):  # vgg16: a worker finds out
        assert why_unloadable(settings, model) == ""


def test_a_key_whose_submission_is_under_way_is_a_conflict_for_a_while(
    tiny_settings: Callable[..., Settings],
) -> None:
    app = create_app(tiny_settings())
    with TestClient(app) as client:
        state = app.state.deconv
        request = request_of(methods.get(BODY["method"])).model_validate(BODY)

        async def twice() -> list[Any]:
            both = (jobs.submit(state, request, key="k", body_sha256="h") for _ in range(2))
            return await asyncio.gather(*both, return_exceptions=True)

        assert client.portal is not None
        first, second = client.portal.call(twice)
        assert (second.status, second.code, second.retry_after) == (
            409, "idempotency_key_in_flight", 1,
        )  # fmt: skip
        again = client.portal.call(lambda: jobs.submit(state, request, key="k", body_sha256="h"))
        assert again.id == first.id
