"""Gets a program that tests drive. Having none of it is an error that says so, never a skip."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class MissingError(Exception):
    """A program that tests need is not there and could not be had."""


def run(*command: str) -> bool:
    """Whether a command that is given ten minutes did well."""
    try:
        return subprocess.run(command, check=False, timeout=600, stdout=sys.stderr).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def install(package: str) -> None:
    """Install a package of Debian's, where that may be done."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        run("apt-get", "update", "-q")
        run("apt-get", "install", "-qy", "--no-install-recommends", package)


def tell(name: str, find: Callable[[], Path]) -> None:
    """Say where the program is, or exit with what to do about it."""
    try:
        sys.stdout.write(f"{name}: {find()}\n")
    except MissingError as error:
        sys.exit(str(error))
