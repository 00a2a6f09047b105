"""The reliability scripts, each against a real server: short in the gate, whole with `-m slow`."""

import subprocess
import sys
from pathlib import Path

import pytest

SHORT = {
    "slow_sockets": ["--sockets", "12", "--receive-s", "1", "--most-s", "12"],
    "path_payloads": ["--payloads", "20"],
    "idempotency": ["--keys", "2", "--posts", "20"],
    "streams": ["--streams", "4", "--cuts", "3", "--images", "8", "--most-s", "60"],
    "schema_fuzz": ["--examples", "1", "--phases", "fuzzing,stateful"],
    "clock_jump": ["--pictures", "40"],
    "poison": ["--pictures", "9"],
    "server_kills": ["--kills", "2", "--ready-s", "120", "--leave-s", "60"],
    "worker_kills": ["--items", "30", "--kills", "3"],
    "write_faults": ["--only", "9", "--parts", "work", "index"],
    "sigterm": ["--runs", "2", "--clients", "2"],
}


@pytest.mark.parametrize("script", SHORT)
def test_the_server_withstands(root: Path, script: str) -> None:
    command = [sys.executable, "-m", f"tests.reliability.{script}", *SHORT[script]]
    found = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, cwd=root
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("script", [*SHORT, "mutated_images", "submissions", "reads", "flood"])
def test_the_server_withstands_the_whole_of_it(root: Path, script: str) -> None:
    command = [sys.executable, "-m", f"tests.reliability.{script}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert found.returncode == 0, found.stdout + found.stderr
