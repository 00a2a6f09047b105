"""An index that is built on a failing disk, in a new folder or in place of another index."""

import random
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from deconvnet.errors import IndexError_
from deconvnet.index.reader import open_index
from tests.reliability.disk import Disk, Fault
from tests.reliability.faulty_start import in_order
from tests.reliability.warm import Warm
from tests.reliability.workload import NETWORK

SIZES: dict[str, tuple[int, ...]] = {
    "0.weight": (4, 3, 3, 3), "0.bias": (4,), "3.weight": (4, 4, 3, 3), "3.bias": (4,),
    "6.weight": (3, 64), "6.bias": (3,),
}  # fmt: skip
PICTURES = 160  # three blocks, each with a checkpoint of its own

# Without this there is one checkpoint for 4096 pictures.
_OFTEN = "deconvnet.index.build as b, deconvnet_app.cli.index; b.build_index.__wrapped__"
_OFTEN += ".__kwdefaults__['checkpoint_every'] = 64"


class Indexing:
    """Each fault meets a build of its own; the same command, undisturbed, must make all whole.

    Whatever fails, an index there is whole, the old or the new one, or there is none.

    Args:
        replacing: whether there is an index of other parameters.
    """

    def __init__(
        self, disk: Disk, folder: Path, out: Path, most_s: float, *, replacing: bool
    ) -> None:
        self._disk, self._out, self._most_s = disk, out, most_s
        self._before, self._pictures = folder / "before", folder / "pictures"
        self._network, self._weights = folder / "network.py", folder / "network.safetensors"
        self._prepare()
        self._warm = Warm(folder, _OFTEN, disk.variables)
        self._whole = self._reference()
        if replacing:
            self._build(k=3)
            self._out.rename(self._before)

    def _prepare(self) -> None:
        self._network.write_text(NETWORK)
        self._pictures.mkdir()
        for number in range(PICTURES):
            pixels = random.Random(number).randbytes(192)
            picture = Image.frombytes("RGB", (8, 8), pixels)
            picture.putpixel((0, 0), (9, 9, 9))
            picture.save(self._pictures / f"{number:03d}.png")
        rng = np.random.default_rng(3)
        save_file(
            {name: rng.normal(size=size).astype(np.float32) for name, size in SIZES.items()},
            self._weights,
        )

    def _reference(self) -> dict[str, bytes]:
        self._disk.arm(0, 0, 0)
        self._build()
        self._calls = self._disk.disarm()
        whole = _files(self._out)
        shutil.rmtree(self._out)
        return whole

    def count(self) -> int:
        """The calls of a build that nothing disturbs."""
        return self._calls

    def run(self, fault: Fault) -> bool:
        """Build, and build again; whether the fault was reached.

        Raises:
            RuntimeError, TimeoutError, OSError: a promise was broken.
        """
        shutil.rmtree(self._out, ignore_errors=True)
        if self._before.exists():
            shutil.copytree(self._before, self._out)
        self._disk.arm(fault.first, fault.last, fault.error)
        ended = self._warm.run(self._most_s, *self._command(2))
        reached = self._disk.disarm() >= fault.first
        if ended.code != 0 and not in_order(ended, fault):
            raise RuntimeError(f"it ended with {ended.code}: {ended.log}")
        self._look()
        self._build()
        if (found := _files(self._out)) != self._whole:
            others = {name for name, _ in found.items() ^ self._whole.items()}
            raise RuntimeError(f"built again, other files: {sorted(others)}")
        return reached

    def _look(self) -> None:
        """What is there must be whole, or be no index."""
        try:
            open_index(self._out)
        except IndexError_ as error:
            if "corrupt" in str(error):
                raise RuntimeError(str(error)) from error

    def _build(self, k: int = 2) -> None:
        ended = self._warm.run(self._most_s, *self._command(k))
        if ended.code != 0:
            raise RuntimeError(f"undisturbed it ended with {ended.code}: {ended.log}")

    def _command(self, k: int) -> list[str]:
        given = {"--out": self._out, "-k": k, "--layers": "conv2", "--weights": self._weights}
        given |= {"--device": "cpu", "--workers": 1}
        options = [str(part) for pair in given.items() for part in pair]
        return ["index", f"{self._network}:build", str(self._pictures), *options, "--quiet"]

    def close(self) -> None:
        """End what runs."""
        self._warm.close()


def _files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
