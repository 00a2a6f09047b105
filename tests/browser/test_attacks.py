"""Every seventh of the attacks in `tests/reliability/browser_attacks.py`."""

import subprocess
import sys
from pathlib import Path


def test_no_attack_on_a_signed_in_browser_succeeds(root: Path) -> None:
    command = [sys.executable, "-m", "tests.reliability.browser_attacks", "--every", "7"]
    found = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=500, cwd=root
    )
    assert found.returncode == 0, found.stdout + found.stderr
