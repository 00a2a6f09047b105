"""Finds the Chromium that browser tests drive, and gets one where there is none.

In this order: $CHROMIUM, the system's own, the one Playwright keeps, one that Playwright can
download, Debian's package where it may be installed.
"""

import os
import shutil
import sys
from pathlib import Path

from tests.support.installing import MissingError, install, run, tell

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


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


def find() -> Path:
    """A Chromium, installed now if it has to be.

    Raises:
        MissingError: none could be had.
    """
    if found := installed():
        return found
    run(sys.executable, "-m", "playwright", "install", "chromium")
    if found := installed():
        return found
    install("chromium")
    if found := installed():
        return found
    raise MissingError(
        "The browser tests need Chromium, and none could be found or installed. Install it "
        "(apt-get install chromium, or playwright install chromium) or give its path in CHROMIUM."
    )


if __name__ == "__main__":
    tell("browser", find)
