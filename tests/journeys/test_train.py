"""Training from the command line: killed and resumed, stopped and told how to go on."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from .commands import run, start

NET = """
from torch import Tensor, nn

INPUT_SIZE = (3, 32, 32)


class Net(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5, stride=2)
        self.relu1 = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8 * 14 * 14, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.relu1(self.conv1(x)).flatten(1)))


def build(classes: int = 2) -> nn.Module:
    return Net(classes)
"""
EPOCHS = 12


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:build"


def arguments(net: str, images: Path, out: Path, *more: str) -> list[str | Path]:
    return [
        "train", net, images, "--out", out, "--epochs", str(EPOCHS), "--batch", "8", "--shift", "2",
        "--device", "cpu", "--checkpoint-every", "0", "--quiet", *more,
    ]  # fmt: skip


def progress(out: Path) -> dict[str, float]:
    """Where the run in `out` stands, by its last checkpoint; {} before the first."""
    path = out / "state.safetensors"
    if not path.exists():
        return {}
    with safe_open(path, framework="pt") as opened:
        return json.loads(opened.metadata()["progress"])


def wait_for_epoch(process: subprocess.Popen[str], out: Path, epoch: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if progress(out).get("epoch", 0) >= epoch:
            return
        time.sleep(0.02)
    pytest.fail(f"the run ended or stood still before epoch {epoch}: {process.communicate()}")


def test_a_run_killed_in_the_middle_and_resumed_gives_the_same_weights(
    net: str, image_folder: Path, tmp_path: Path
):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert run(*arguments(net, image_folder, undisturbed)).returncode == 0

    process = start(*arguments(net, image_folder, killed))
    wait_for_epoch(process, killed, 3)
    process.kill()
    process.communicate()
    stood = progress(killed)
    assert 3 <= stood["epoch"] < EPOCHS
    assert run(*arguments(net, image_folder, killed)).returncode == 0

    for name in (
        "net-build.safetensors",
        "epoch-001.safetensors",
        "epoch-008.safetensors",
    ):
        expected, resumed = load_file(undisturbed / name), load_file(killed / name)
        assert expected.keys() == resumed.keys()
        assert all(torch.equal(expected[key], resumed[key]) for key in expected), name


def test_a_run_stopped_by_ctrl_c_says_how_to_go_on(net: str, image_folder: Path, tmp_path: Path):
    out = tmp_path / "stopped"
    process = start(*arguments(net, image_folder, out))
    wait_for_epoch(process, out, 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"deconvnet train {net}" in err


def test_a_run_resumed_with_another_recipe_is_refused(net: str, image_folder: Path, tmp_path: Path):
    out = tmp_path / "run"
    assert run(*arguments(net, image_folder, out, "--epochs", "1")).returncode == 0
    again = run(*arguments(net, image_folder, out, "--epochs", "2"))
    assert again.returncode == 2
    assert "another recipe" in again.stderr


def test_what_was_trained_is_evaluated_by_the_names_of_its_folders(
    net: str, image_folder: Path, tmp_path: Path
):
    out = tmp_path / "run"
    names = tmp_path / "names.txt"
    names.write_text("cold\tvery cold, freezing\nwarm\tquite warm\n")
    trained = run(
        *arguments(net, image_folder, out, "--validation", str(image_folder), "--names", str(names))
    )
    assert trained.returncode == 0, trained.stderr
    weights = out / "net-build.safetensors"
    with safe_open(weights, framework="pt") as opened:
        assert json.loads(opened.metadata()["classes"]) == ["very cold", "quite warm"]
    result = run("evaluate", net, image_folder, "--weights", weights, "--quiet", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("24 images  top-1 ")
    assert (out / "learning-curve.png").exists()
