"""An index scanned on a cluster is the one of a single process, to the byte."""

from pathlib import Path

import pytest

from tests.cluster.ray_cluster import RayCluster
from tests.journeys.commands import run


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_an_index_of_two_actors_is_that_of_one_process(
    cluster: RayCluster, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token))
    here, there = tmp_path / "here", tmp_path / "there"
    both = ("index", "zfnet64", image_folder, "--device", "cpu", "--quiet", "--no-sprites", "--out")
    far = ("--backend", "ray", "--address", cluster.address, "--actors", "2")
    for done in (run(*both, here), run(*both, there, *far)):
        assert done.returncode == 0, done.stderr
    assert contents(there) == contents(here)
