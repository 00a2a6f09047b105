"""Claim: the index's memory does not grow with the number of images.

Peak resident memory above the start, of a process of its own for each size of dataset.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, photographs, table
from index import LAYERS, dataset

import deconvnet as dn


def peak(name: str, folder: str, out: str) -> None:
    """In a fresh process: megabytes above what the loaded network takes."""
    net = dn.load(name, weights=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dn.build_index(net, folder, out, layers=LAYERS, sprites=False, progress=False)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps((after - before) / 1024))


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--counts", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--peak", nargs=3, help="model, images, out: measure one, in this process")
    options = parser.parse_args()
    if options.peak:
        peak(*options.peak)
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for count in options.counts:
            dataset(root / str(count), photographs(options.images), count)
        for name in options.models or ["alexnet", "resnet18"]:
            row = [name]
            for count in options.counts:
                command = [sys.executable, __file__, "--peak", name, str(root / str(count)),
                           str(root / f"{name}-{count}")]  # fmt: skip
                run = subprocess.run(command, check=True, capture_output=True, text=True)
                row.append(f"{json.loads(run.stdout):.0f} MB")
            rows.append(row)
    print(table("Memory above start", ["network", *(f"{n} images" for n in options.counts)], rows))


if __name__ == "__main__":
    main()
