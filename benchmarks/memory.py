"""Claim: what indexing takes does not grow with the number of images.

The peak of a process's resident memory above what it held once the network was loaded, in a process
of its own for each size of dataset: the first pass over five layers, both passes (the pictures too)
for conv5 with one hit a unit, and beside them the plain loop and zennit-crp; then an occlusion map
and nine projections, under a budget of 256 MB (DECONVNET_MEMORY_MB). Linux alone tells these peaks.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from index import LAYERS, crp, dataset, limit

import deconvnet as dn
from benchmarks.common import arguments, batch, each, photographs, stock, table

_BUDGET_MB = "256"  # of occlusion and projection


def status(field: str) -> float:
    """Megabytes that Linux tells of this process: VmRSS (now) or VmHWM (at most since `reset`)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def reset() -> float:
    """Give what is free back to the system, begin a new peak; megabytes held now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmRSS")


def works(name: str, images: Path, out: Path) -> dict[str, Callable[[], object]]:
    """What is measured, by its column."""
    net = dn.load(name, weights=None)
    files = sorted(images.glob("*.jpg"))

    def occlude() -> object:
        return dn.occlusion(net, batch(net, files, 1), size=32, stride=16)

    def project() -> object:
        units = [f"conv5:{channel}" for channel in range(9)]
        return dn.project(net, batch(net, files, 9), units)

    return {
        "index": lambda: dn.build_index(
            net, images, out, layers=LAYERS, sprites=False, progress=False
        ),
        "pictures": lambda: dn.build_index(net, images, out, k=1, layers=["conv5"], progress=False),
        "plain": lambda: limit(net, files),
        "zennit-crp": lambda: crp(net, stock(net), files, out / "crp"),
        "occlusion": occlude,
        "projection": project,
    }


def peak(what: str, name: str, images: str, out: str) -> None:
    """Print the megabytes that one of `works` takes in this process."""
    work = works(name, Path(images), Path(out))[what]
    before = reset()
    work()
    print(json.dumps(status("VmHWM") - before))


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--counts", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--peak", nargs=4, help="what, model, images, out: in this process")
    options = parser.parse_args()
    if options.peak:
        peak(*options.peak)
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for count in options.counts:
            dataset(root / str(count), photographs(options.images), count)
        for name in each(options.models or ["alexnet", "resnet18", "vgg16"]):
            rows.append([name, *_row(name, root, options.counts)])
    few, many = options.counts[0], options.counts[-1]
    head = ["network", *(f"index, {n} images" for n in options.counts), f"with pictures, {few}",
            f"with pictures, {many}", f"plain loop, {few}", f"zennit-crp, {few}", "occlusion",
            "9 projections of conv5"]  # fmt: skip
    print(table("Memory above start, MB", head, rows, "zennit", "zennit-crp"))


def _row(name: str, root: Path, counts: list[int]) -> list[str]:
    asked = [("index", count) for count in counts]
    asked += [("pictures", counts[0]), ("pictures", counts[-1])]
    asked += [(what, counts[0]) for what in ("plain", "zennit-crp", "occlusion", "projection")]
    found = []
    for rank, (what, count) in enumerate(asked):
        command = [sys.executable, __file__, "--peak", what, name, str(root / str(count)),
                   str(root / f"{name}-{rank}")]  # fmt: skip
        environment = {**os.environ, "DECONVNET_MEMORY_MB": _BUDGET_MB}
        run = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
        found.append(f"{json.loads(run.stdout):.0f}")
    return found


if __name__ == "__main__":
    main()
