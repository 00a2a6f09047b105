"""Every seventh of the attacks in `benchmarks/reliability/browser_attacks.py`."""

import subprocess
import sys
from pathlib import Path


def test_no_attack_on_a_signed_in_browser_succeeds(root: Path) -> None:
    script = root / "benchmarks" / "reliability" / "browser_attacks.py"
    command = [sys.executable, str(script), "--every", "7"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert found.returncode == 0, found.stdout + found.stderr
