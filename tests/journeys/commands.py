"""The `deconvnet` command as a process of its own, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

CODE = "from deconvnet_app.cli.main import main; main()"


def environment(**more: str) -> dict[str, str]:
    """This process's, with one thread, so that results do not depend on the machine's load."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start the command and return at once."""
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(),
    )


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)
