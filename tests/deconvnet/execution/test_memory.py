"""Memory: what is free, what a budget allows, and batches halved where that was too much."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deconvnet.errors import ParameterError
from deconvnet.execution.batches import in_slices
from deconvnet.execution.free_memory import free_memory
from deconvnet.execution.memory import budget

GIB = 2**30

CHILD = """
import resource, torch
from torch import nn
import deconvnet as dn

torch.manual_seed(0)
module = nn.Sequential(
    nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 5),
).eval()
net = dn.trace(module, (3, 128, 128))
x = torch.rand(1, 3, 128, 128)

def run(strategy):
    steps = []
    found = dn.occlusion(
        net, x, size=64, stride=8, strategy=strategy,
        on_progress=lambda done, total: steps.append(done),
    )
    return found.probability, steps

free = {way: run(way) for way in ("plain", "incremental")}
pages = int(open("/proc/self/statm").read().split()[0])
taken = pages * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM * 2**20,) * 2)
for way, (expected, steps) in free.items():
    found, halved = run(way)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.max()), way
    print(way, len(steps), len(halved))
"""


def system(root: Path, files: dict[str, str]) -> Path:
    """A `proc` and a `sys` with these files."""
    for name, text in {"proc/meminfo": f"MemAvailable: {6 * 2**20} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_page_cache_is_free(tmp_path: Path) -> None:
    assert free_memory(system(tmp_path, {})) == 6 * GIB


def test_a_container_of_version_2_has_what_its_group_leaves(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/memory.max": f"{2 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{GIB}\n",
        "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": f"{GIB}\n",
    }
    assert free_memory(system(tmp_path, files)) == GIB + GIB // 2


def test_a_container_of_version_1_may_not_see_the_path_of_its_group(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/0123\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB // 4}\n",
    }
    assert free_memory(system(tmp_path, files)) == GIB + GIB // 4


def test_a_group_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": f"{GIB}\n",
        "sys/fs/cgroup/memory.current": f"{2 * GIB}\n",
    }
    assert free_memory(system(tmp_path, files)) == 0


@pytest.mark.parametrize("asked", ["abc", "nan", "inf", "-1", "0"])
def test_a_budget_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("DECONVNET_MEMORY_MB", asked)
    with pytest.raises(ParameterError, match=f"DECONVNET_MEMORY_MB is '{asked}', expected"):
        budget(torch.device("cpu"))


def test_a_budget_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECONVNET_MEMORY_MB", "1.5")
    assert budget(torch.device("cpu")) == 1.5 * 2**20


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("std::bad_alloc"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("could not create a primitive"), RuntimeError("could not execute a primitive"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_halved_until_it_does(error: Exception) -> None:
    def work(part: slice) -> list[int]:
        if part.stop - part.start > 3:
            raise error
        return list(range(part.start, part.stop))

    assert [i for part in in_slices(10, 8, work) for i in part] == list(range(10))
    with pytest.raises(MemoryError):
        in_slices(4, 4, lambda part: (_ for _ in ()).throw(error))


@pytest.mark.parametrize("said", ["shapes differ", "could not create a primitive descriptor for"])
def test_another_error_is_not_tried_again(said: str) -> None:
    def work(part: slice) -> None:
        raise RuntimeError(said)

    with pytest.raises(RuntimeError, match=said):
        in_slices(4, 4, work)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of an address space is Linux's")
def test_occlusion_in_a_process_with_little_memory_halves_its_batches(root: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CHILD.replace("ROOM", "120")], cwd=root, capture_output=True,
        text=True, check=False, timeout=120,
        env={"DECONVNET_MEMORY_MB": "100000", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    ways = dict(line.split(maxsplit=1) for line in ended.stdout.splitlines())
    before, after = map(int, ways["plain"].split())
    assert after > before
    assert "incremental" in ways
