"""`python -m benchmarks`: every script of the folder, one report."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks import __main__ as bench

SCRIPT = '''"""Claim: {claim}

More of it.
"""
import sys

print("## Table of", " ".join(sys.argv[1:]))
sys.exit({code})
'''


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(bench.app, [*map(str, arguments)])


def test_every_benchmark_is_found_by_its_claim(root: Path):
    scripts = {path.stem for path in (root / "benchmarks").glob("*.py")} - {
        "common",
        "__init__",
        "__main__",
    }
    assert set(bench.benchmarks(root / "benchmarks")) == scripts
    listed = run("--list").output
    assert all(f"\n{name} " in f"\n{listed}" for name in scripts)


def test_a_benchmark_runs_and_its_table_is_in_the_report(tmp_path: Path, image_folder: Path):
    report = tmp_path / "new" / "report.md"
    result = run("projection", "--quick", "--images", image_folder, "--out", report)
    assert result.exit_code == 0, result.output
    text = report.read_text(encoding="utf-8")
    assert text.startswith("# Benchmarks of deconvnet ")
    assert text.count("| zfnet64 conv") == 5
    assert " threads; " in text
    assert "captum " in text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small benchmarks, of which the first fails."""
    (tmp_path / "a.py").write_text(SCRIPT.format(claim="It\nfails.", code=3))
    (tmp_path / "b.py").write_text(SCRIPT.format(claim="It holds.", code=0))
    (tmp_path / "common.py").write_text('"""What both share."""')
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    return tmp_path


def test_one_that_fails_is_told_and_the_others_run(folder: Path):
    result = run("--models", "vgg16,alexnet", "--out", folder / "report.md")
    assert result.exit_code == 2
    assert "[1/2] a: It fails." in result.output
    assert "a failed; see above" in result.output
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "The benchmark failed after" in text
    assert text.count("## Table of --device cpu --runs 5 --models vgg16 alexnet") == 2


def test_a_chosen_one_runs_alone(folder: Path):
    assert run("b", "--out", folder / "report.md").exit_code == 0
    assert "It fails." not in (folder / "report.md").read_text(encoding="utf-8")
