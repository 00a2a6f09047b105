"""What an installation needs, and what is loaded when: the engine alone, the client alone."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import deconvnet as dn
from tests.support.checkout import pythonpath

SERVER = (
    "alembic", "fastapi", "itsdangerous", "jinja2", "prometheus_client", "pydantic_settings",
    "sqlalchemy", "sse_starlette", "starlette", "structlog", "uvicorn", "zipstream",
)  # fmt: skip
COMMAND = "from deconvnet_app.cli.main import main; sys.argv[1:] = {!r}; main()"


def run(code: str, cwd: Path, hidden: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, in which some modules do not exist."""
    hide = "".join(f"sys.modules[{name!r}] = None\n" for name in hidden)
    return subprocess.run(
        [sys.executable, "-c", f"import os, sys\n{hide}{code}"],
        check=False, capture_output=True, text=True, cwd=cwd,
        env={"PYTHONPATH": pythonpath(), "PATH": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "code", ["import deconvnet.client", "import deconvnet", COMMAND.format(["--help"])]
)
def test_it_loads_neither_torch_nor_numpy(code: str, tmp_path: Path) -> None:
    ended = f"import atexit; atexit.register(lambda: print([*sys.modules]))\n{code}"
    found = run(ended, tmp_path)
    assert found.returncode == 0, found.stderr
    loaded = found.stdout.splitlines()[-1]
    assert "'typing'" in loaded
    assert "'torch'" not in loaded and "'numpy'" not in loaded


def test_public_names_are_there_and_no_submodule_hides_one(root: Path) -> None:
    for name in dn.__all__:
        assert getattr(dn, name) is not None
    assert set(dn.__all__) <= set(dir(dn))
    submodules = {path.stem for path in (root / "deconvnet").iterdir()}
    assert not submodules & set(dn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'projct'"):
        _ = dn.projct  # type: ignore[attr-defined]


INDEX = """
del os.pread
import deconvnet as dn
net = dn.load("zfnet64")
index = dn.build_index(net, {data!r}, "index", k=3, progress=False)
print(len(index.top("conv5:7")))
"""


def test_the_engine_works_where_there_is_no_fcntl(image_folder: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        tar.add(image_folder, "data")
    found = run(INDEX.format(data=str(tmp_path / "data.tar")), tmp_path, ["fcntl", "resource"])
    assert found.stdout == "3\n", found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", "zfnet64"],
        ["project", "zfnet64", "{photo}", "conv5:7"],
        ["occlude", "zfnet64", "{photo}", "--stride", "32", "--size", "32"],
        ["index", "zfnet64", "{images}", "--out", "index", "-k", "1", "--layers", "conv1"],
        ["filters", "zfnet64", "conv1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_run_without_the_server(
    arguments: list[str], photo: Path, image_folder: Path, tmp_path: Path
) -> None:
    given = [part.format(photo=photo, images=image_folder) for part in arguments]
    found = run(COMMAND.format(given), tmp_path, SERVER)
    assert found.returncode == 0, found.stderr


def test_a_command_that_needs_the_server_says_what_to_install(tmp_path: Path) -> None:
    found = run(COMMAND.format(["serve", "--port", "0"]), tmp_path, SERVER)
    assert found.returncode == 2
    assert "pip install 'deconvnet[server]'" in found.stderr
