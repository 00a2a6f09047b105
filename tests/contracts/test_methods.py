"""A method is registered once and then found in Python, the command line, REST and the pages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import Field
from torch import Tensor
from typer.testing import CliRunner

import deconvnet as dn
from deconvnet import methods
from deconvnet.errors import ParameterError
from deconvnet.methods.base import Explanation, Method, Params, Run
from deconvnet_app.cli.main import app as command_line
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings


class BrightnessParams(Params):
    """One bounded parameter, with a unit."""

    gain: float = Field(
        2.0, ge=0.0, le=10.0, description="How much brighter.", json_schema_extra={"unit": "×"}
    )


class Brightness(Method):
    """Explains nothing: it shows the image brightened."""

    name = "brightness"
    title = "Brightness"
    source = "made for this test"
    explains = frozenset({"class"})
    needs_target = False
    Params = BrightnessParams

    def explain(self, net: dn.Network, x: Tensor, params: Any, run: Run) -> Explanation:
        values = (x[0].mean(0) * params.gain).numpy()
        picture = np.zeros((*values.shape, 3), np.uint8)
        return Explanation({"map": values}, {"heatmap": picture}, {"gain": params.gain}, "test")


@pytest.fixture
def registered() -> Iterator[None]:
    """The method, for one test."""
    methods.register(Brightness())
    yield
    methods.unregister("brightness")


@pytest.fixture
def server(registered: None, tmp_path: Path) -> Iterator[TestClient]:
    """The application, made after the method was registered."""
    settings = Settings.model_validate({"data_dir": tmp_path, "backend": "inline", "auth": False})
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        yield client


def test_python_runs_it(registered: None) -> None:
    net = dn.load("zfnet64", weights=None, device="cpu")
    import torch

    found = methods.get("brightness").run(net, torch.ones(1, 3, 64, 64), params={"gain": 3})
    assert float(found.arrays["map"].max()) == pytest.approx(3.0)


def test_the_command_line_runs_it(registered: None, photo: Path, tmp_path: Path) -> None:
    arguments = [
        "explain",
        "brightness",
        "zfnet64",
        str(photo),
        "--gain",
        "4",
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(command_line, arguments)
    assert result.exit_code == 0, result.output
    assert any(path.suffix == ".png" for path in tmp_path.rglob("*"))


def test_rest_lists_it_with_its_schema_and_takes_jobs_for_it(server: TestClient) -> None:
    listed = server.get("/api/v1/methods").json()
    found = next(item for item in listed["items"] if item["name"] == "brightness")
    assert "gain" in str(found)
    schema = server.get("/api/v1/openapi.json").text
    assert "BrightnessParams" in schema


def test_the_pages_offer_it_with_a_form(server: TestClient) -> None:
    page = server.get("/jobs?method=brightness", headers={"Accept": "text/html"}).text
    assert "Brightness" in page
    assert "gain" in page
    assert "How much brighter." in page


def test_a_name_that_is_taken_is_refused(registered: None) -> None:
    with pytest.raises(ParameterError, match="registered already"):
        methods.register(Brightness())
