"""A wheel built from the tree works outside the checkout."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .commands import CODE, environment


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*build, str(root)], check=True, capture_output=True, env=environment())
    (made,) = out.glob("deconvnet-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch folder that holds the wheel alone; what it needs is this environment's."""
    target = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True, env=environment())
    return target


def outside(installed: Path, cwd: Path, code: str, *arguments: str) -> str:
    """Run code with the installed wheel before everything else, away from the checkout."""
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(PYTHONPATH=str(installed)),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_wheel_carries_what_lies_beside_the_packages(root: Path, wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    places = {
        "models": "deconvnet/_share/models",
        "static": "deconvnet_app/_share/static",
        "templates": "deconvnet_app/_share/templates",
    }
    for folder, place in places.items():
        files = [path for path in (root / folder).rglob("*") if path.is_file()]
        carried = [path for path in files if "__pycache__" not in path.parts]
        assert carried
        for path in carried:
            assert f"{place}/{path.relative_to(root / folder).as_posix()}" in names
    assert not [name for name in names if "__pycache__" in name]
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"deconvnet", "deconvnet_app"}  # neither tests nor benchmarks, no package "app"


def test_the_demo_is_built_outside_the_checkout(installed: Path, tmp_path: Path):
    found = outside(installed, tmp_path, "import deconvnet; print(deconvnet.__file__)")
    assert Path(found.strip()).is_relative_to(installed)

    said = outside(installed, tmp_path, CODE, "demo", "--data-dir", "D", "--no-serve", "--quiet")
    assert "896 units of zfnet64" in said
    assert json.loads((tmp_path / "D" / "tiles" / "provenance.json").read_text(encoding="utf-8"))

    check = """
import sys
import deconvnet as dn
index = dn.open_index(sys.argv[1])
hits = index.top("conv5:7")
assert len(hits) == 9, hits
assert max([hit.group for hit in hits].count(hit.group) for hit in hits) <= 2
assert index.sprite("conv5", 7).is_file()
"""
    outside(installed, tmp_path, check, str(tmp_path / "D" / "indexes" / "zfnet64"))
