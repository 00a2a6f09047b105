"""The unit tests of the application and of the client with the lowest versions that are allowed.

python -m tests.support.lowest. A virtual environment beside the usual one gets the lowest version
of each direct dependency; torch and torchvision, which take gigabytes, and the tools of the tests
come from the usual one, further down its path.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tests.support.checkout import IMPORTABLE, ROOT

ENVIRONMENT = ROOT / ".venv-lowest"
LARGE = ("torch", "torchvision", "nvidia-", "triton", "cuda-")
APP = ROOT / "tests" / "deconvnet_app"
TESTS = [
    *(APP / name for name in ("api", "catalog", "cli", "imaging", "services", "web")),
    *(APP / name for name in ("db/test_storage.py", "http/test_http.py")),
    *(APP / name for name in ("test_access.py", "test_limits.py", "test_metrics.py")),
    ROOT / "tests" / "deconvnet" / "client",
]


def _uv(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "uv", *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def _make() -> Path:
    """Make the environment; its Python."""
    _uv("venv", "-q", "--clear", "--python", sys.executable, str(ENVIRONMENT))
    python = next(
        path for path in (ENVIRONMENT / "bin/python", ENVIRONMENT / "Scripts/python.exe")
        if path.exists()
    )  # fmt: skip
    extras = [part for extra in ("server", "client", "postgres") for part in ("--extra", extra)]
    wanted = _uv(
        "pip", "compile", "-q", "--resolution", "lowest-direct", "--python", sys.executable,
        "--no-header", "--no-annotate", *extras, str(ROOT / "pyproject.toml"),
    )  # fmt: skip
    lowest = [line for line in wanted.splitlines() if not line.startswith(LARGE)]
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "lowest.txt")
        listed.write_text("\n".join(lowest))
        _uv("pip", "install", "-q", "--no-deps", "--python", str(python), "-r", str(listed))
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout.strip()  # fmt: skip
    further = [*map(str, IMPORTABLE), sysconfig.get_path("purelib")]
    Path(own, "further.pth").write_text("\n".join(further) + "\n")
    return python


def main() -> int:
    """Run the tests; pytest's exit code."""
    # Old libraries are deprecated in places; what matters is that everything works.
    options = ["-q", "-n", "2", "-p", "no:cacheprovider", "-o", "filterwarnings=ignore"]
    command = [_make(), "-m", "pytest", *options, *TESTS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
