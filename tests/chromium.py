"""Finds the Chromium that browser tests drive, and gets one where there is none.

In this order: $CHROMIUM, the system's own, the one Playwright keeps, one that Playwright can
download, Debian's package where it may be installed. None of these is an error that says so,
never a skip.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class NoBrowserError(Exception):
    """There is no Chromium and none could be had."""


def installed() -> Path | None:
    """A Chromium that is there."""
    asked = os.environ.get("CHROMIUM")
    if asked:
        return Path(asked)
    system = next((found for name in NAMES if (found := shutil.which(name))), None)
    return Path(system) if system else _of_playwright()


def _of_playwright() -> Path | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.is_file() else None


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, check=False, timeout=600, stdout=sys.stderr).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find() -> Path:
    """A Chromium, installed now if it has to be.

    Raises:
        NoBrowserError: none could be had.
    """
    if found := installed():
        return found
    _run(sys.executable, "-m", "playwright", "install", "chromium")
    if found := installed():
        return found
    if shutil.which("apt-get") and os.geteuid() == 0:
        _run("apt-get", "update", "-q")
        _run("apt-get", "install", "-qy", "--no-install-recommends", "chromium")
        if found := installed():
            return found
    raise NoBrowserError(
        "The browser tests need Chromium, and none could be found or installed. Install it "
        "(apt-get install chromium, or playwright install chromium) or give its path in CHROMIUM."
    )


if __name__ == "__main__":
    try:
        sys.stdout.write(f"browser: {find()}\n")
    except NoBrowserError as error:
        sys.exit(str(error))
