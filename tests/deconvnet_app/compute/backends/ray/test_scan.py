"""An index scanned on a cluster is the one of a single process, to the byte."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import deconvnet as dn
from deconvnet.data.dataset import Dataset
from deconvnet.index.scan import ScanPlan
from deconvnet.index.shards import sharded
from deconvnet_app.compute.backends.ray.cluster import Cluster
from deconvnet_app.compute.backends.ray.scan import on_cluster
from tests.support.ray_cluster import RayCluster
from tests.support.server import TINY, png


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def scanners(cluster: RayCluster) -> set[int]:
    """The processes of the actors that scan."""
    found = set()
    for pid in cluster.pids():
        with contextlib.suppress(OSError):
            if b"PartScanner" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


@pytest.fixture
def one_thread() -> Iterator[None]:
    """An actor takes as many processors as torch takes here, and the cluster has two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def joined(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """The cluster, with this process let in, and out again."""
    given = cluster.environment() | Cluster(cluster.address).environment()
    for name, value in given.items():  # Ray reads them when it is imported
        monkeypatch.setenv(name, value)
    yield cluster
    import ray

    ray.shutdown()


@pytest.mark.usefixtures("one_thread")
def test_an_index_of_two_actors_one_of_which_is_killed_is_that_of_one_process(
    joined: RayCluster, tmp_path: Path
) -> None:
    photos, file = tmp_path / "photos", tmp_path / "seeded.py"
    photos.mkdir()
    for n in range(330):  # six parts of a block each
        (photos / f"{n:03d}.png").write_bytes(png((n * 7 % 251, n * 31 % 241, n * 17 % 239)))
    (photos / "100.png").write_bytes(b"not a picture")
    file.write_text(TINY.replace("return Tiny()", "torch.manual_seed(0)\n    return Tiny()"))
    net = dn.load(f"{file}:build", weights=None, device="cpu")
    run = on_cluster(Cluster(joined.address), f"{file}:build", None, "cpu", 2)
    at_work: list[set[int]] = []

    def deadly(plan: ScanPlan, parts: Iterator[Dataset]) -> Iterator[bytes]:
        for data in run(plan, parts):
            if not at_work:
                at_work.append(scanners(joined))
                os.kill(min(at_work[0]), signal.SIGKILL)
            yield data
        at_work.append(scanners(joined))

    given: dict[str, Any] = {"k": 3, "progress": False}
    dn.build_index(net, photos, tmp_path / "here", **given)
    dn.build_index(net, photos, tmp_path / "there", scanner=sharded(deadly, 64), **given)
    before, after = at_work
    assert (len(before), len(after), len(before & after)) == (2, 2, 1)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert any(name.startswith("sprites/") for name in contents(tmp_path / "there"))
