"""A user's own file: it may import what lies beside it, and clashes with nobody."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import deconvnet as dn
from deconvnet.errors import ModelError
from deconvnet_app.main import create_app
from deconvnet_app.settings import Settings
from tests.support.checkout import pythonpath

COMMAND = "import sys; from deconvnet_app.cli.main import main; sys.argv[1:] = {!r}; main()"

NET = """
from app.models import width
from models import depth
from utils import make

INPUT_SIZE = (3, 32, 32)
LANDMARKS = {"conv1": "1"}

def build():
    from late import bias
    return make(width, depth, bias)
"""
UTILS = """
from torch import nn

def make(width, depth, bias):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(width * 900, depth)
    )
"""


def project(folder: Path, width: int) -> Path:
    """A user's project whose packages are called as ours, or as anybody's."""
    for name in ("app", "models"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("depth = 5\n")
    (folder / "app" / "models.py").write_text(f"width = {width}\n")
    (folder / "utils.py").write_text(UTILS)
    (folder / "late.py").write_text("bias = False\n")
    (folder / "net.py").write_text(NET)
    return folder / "net.py"


def test_a_command_opens_a_network_whose_file_imports_its_own_app(tmp_path: Path) -> None:
    net = project(tmp_path / "project", 4)
    found = subprocess.run(
        [sys.executable, "-c", COMMAND.format(["models", f"{net}:build"])], check=False,
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": pythonpath()},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "4×30×30" in found.stdout


@pytest.mark.parametrize("backend", ["inline", "process"])
def test_a_worker_of_the_server_opens_it_too(
    backend: str, tiny_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    net = project(tmp_path / "project", 4)
    settings = tiny_settings(models={"own": f"{net}:build"}, backend=backend)
    with TestClient(create_app(settings)) as client:
        layers = client.get("/api/v1/models/own/layers").json()["items"]
    assert layers[0]["shape"] == [4, 30, 30]


def test_two_projects_with_files_of_the_same_names_stay_apart(tmp_path: Path) -> None:
    before = dict(sys.modules)
    nets = [project(tmp_path / str(width), width) for width in (4, 7)]
    for net, width in zip(nets, (4, 7), strict=True):
        assert dn.load(f"{net}:build").layer("conv1").shape == (width, 30, 30)
    assert {name: sys.modules[name] for name in before} == before
    assert not {"app", "utils", "late"} & (sys.modules.keys() - before.keys())
    assert not [path for path in sys.path if str(tmp_path) in path]


def test_what_lies_beside_is_imported_anew_with_the_file(tmp_path: Path) -> None:
    net = project(tmp_path / "project", 4)
    assert dn.load(f"{net}:build").layer("conv1").shape[0] == 4
    (net.parent / "app" / "models.py").write_text("width = 16  # more\n")
    net.write_text(f"{NET}\n# changed\n")
    assert dn.load(f"{net}:build").layer("conv1").shape[0] == 16


def test_a_module_that_is_missing_is_named(tmp_path: Path) -> None:
    net = project(tmp_path / "project", 4)
    (net.parent / "utils.py").unlink()
    with pytest.raises(ModelError, match=r"net.py. cannot be imported.*No module named 'utils'"):
        dn.load(f"{net}:build")
