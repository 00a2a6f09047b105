"""What the README and docs/ show runs as it stands there: Python, command line and REST."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, picture

from .commands import environment, run, start

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
ADDRESS = "http://127.0.0.1:8000"
NET = """
from torch import nn

INPUT_SIZE = (3, 32, 32)


def build() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 2))
"""


def blocks(language: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README takes for granted: photo.png, photos/ and net.py."""
    folder = tmp_path_factory.mktemp("readme")
    picture(0, (80, 100)).save(folder / "photo.png")
    for number in range(24):
        label = folder / "photos" / ("cold" if number % 2 else "warm")
        label.mkdir(parents=True, exist_ok=True)
        picture(number).save(label / f"{number:02d}.png")
    (folder / "net.py").write_text(NET)
    return folder


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def test_the_readme_shows_every_face():
    assert len(blocks("python")) >= 2
    assert len(blocks("curl")) >= 2
    assert all(line.startswith("deconvnet ") for line in commands())


def test_the_commands_run_one_after_the_other(place: Path):
    for line in commands():
        result = run(*shlex.split(line)[1:], cwd=place)
        assert result.returncode == 0, f"{line}\n{result.stderr}"


def test_the_python_runs(place: Path):
    for block in blocks("python"):
        result = subprocess.run(
            [sys.executable, "-c", block],
            check=False, capture_output=True, text=True, cwd=place, env=environment(),
        )  # fmt: skip
        assert result.returncode == 0, f"{block}\n{result.stderr}"


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    """A server over a small index called `demo` and a dataset called `tiles`, as in the demo."""
    tiles = place / "tiles"
    (tiles / "astronaut").mkdir(parents=True)
    for number in range(4):
        picture(number).save(tiles / "astronaut" / f"{number}.png")
    index = place / "demo"
    built = run("index", "zfnet64", tiles, "--out", index, "--layers", "conv5", "--quiet")
    assert built.returncode == 0, built.stderr
    process = start(
        "serve", "--index", index, "--dataset", tiles, "--data-dir", place / "data", "--port", "0"
    )
    assert process.stdout is not None
    found = re.match(r"(http://\S+?)/login\?code=\S+ ", process.stdout.readline())
    assert found, process.communicate()
    yield found.group(1)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err


def test_the_rest_examples_are_answered(place: Path, address: str):
    token, *rest = re.split(r"^(?=curl )", "".join(blocks("curl")), flags=re.M)
    token = token.replace(".demo", "data")
    for call in rest:
        assert ADDRESS in call
        script = f"{token}{call.strip()} --fail-with-body".replace(ADDRESS, address)
        result = subprocess.run(
            ["sh", "-c", script],
            check=False, capture_output=True, text=True, cwd=place, timeout=60,
        )  # fmt: skip
        assert result.returncode == 0, f"{call}\n{result.stdout}{result.stderr}"
        assert json.loads(result.stdout)


def test_the_client_example_runs(place: Path, address: str):
    (block,) = blocks("client")
    script = block.replace(ADDRESS, address).replace(".demo", "data")
    result = subprocess.run(
        [sys.executable, "-c", script],
        check=False, capture_output=True, text=True, cwd=place, env=environment(), timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "(64, 64)" in result.stdout
    assert (place / "heatmap-1.png").read_bytes().startswith(b"\x89PNG")
    assert (place / "results.zip").stat().st_size > 0
