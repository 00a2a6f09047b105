"""How much faster Winograd's form of a convolution is here: measured once per machine, and kept.

What pays depends on the processor, on torch and on the number of threads. Each pair of channel
counts is measured the first time that it is met, both sides in turn, and the ratio kept in a small
file: in DECONVNET_CACHE_DIR, else in the user's cache directory. Processes that meet a pair at the
same time take turns, so that all of them choose alike. A file that cannot be read or written is no
error: the same is then measured again by the next process.
"""

import contextlib
import fcntl
import functools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from deconvnet import fingerprint
from deconvnet.occlusion_maps.winograd import IN, OUT, Winograd, tiles

WORTH = 1.15  # times faster before another rounding is accepted
_SIDE, _IMAGES, _RUNS = 12, 8, 6  # what is measured: full tiles, as many as run together


def filled(height: int, width: int) -> float:
    """The share of an output's tiles that is not thrown away."""
    return height * width / float(OUT * OUT * tiles(height, width))


def could_pay(inputs: int, outputs: int) -> bool:
    """Whether the products alone, those of the transforms included, are few enough."""
    direct = 9 * OUT * OUT * inputs * outputs
    places = IN * IN
    ours = places * (inputs * outputs + places * inputs + OUT * OUT * outputs)
    return direct > WORTH * ours


def measure(inputs: int, outputs: int) -> float:
    """Time of the direct convolution over Winograd's, for these channels.

    Both in turn, and the shortest of each: other work on the machine only ever adds to a time.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_IMAGES, _SIDE + 2, _SIDE + 2, inputs, generator=generator)
    x = x.permute(0, 3, 1, 2)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
    bias = torch.zeros(outputs)
    ours = Winograd(weight, bias)
    sides = (lambda: F.conv2d(x, weight, bias)), (lambda: ours(x))
    runs = [[_seconds(side) for side in sides] for _ in range(_RUNS)]
    return min(direct for direct, _ in runs) / min(other for _, other in runs)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Gains:
    """What was measured on this machine.

    Args:
        file: a JSON object, "inputs-outputs" → ratio; it need not exist.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _read(file)

    def of(self, inputs: int, outputs: int) -> float:
        """Times that Winograd's form is faster on full tiles, for these channels; 0: never."""
        if not could_pay(inputs, outputs):
            return 0.0
        pair = f"{inputs}-{outputs}"
        if pair not in self._known:
            with _turn(self._file):
                self._known = {**self._known, **_read(self._file)}
                if pair not in self._known:
                    self._known[pair] = round(measure(inputs, outputs), 3)
                    _write(self._file, self._known)
        return self._known[pair]


@contextlib.contextmanager
def _turn(file: Path) -> Iterator[None]:
    """Alone among the processes that use the file, where it can be locked."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(file.with_suffix(".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(file: Path) -> dict[str, float]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(pair): float(ratio) for pair, ratio in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path, known: dict[str, float]) -> None:
    """All of the file or nothing of it."""
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(dir=file.parent, suffix=".new")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(known, stream, sort_keys=True)
            Path(name).replace(file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def _processor() -> str:
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cache_file() -> Path:
    """Where the measurements of this machine, torch and number of threads are kept."""
    place = {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return _cache_dir() / f"winograd-{fingerprint.of(place)[:16]}.json"


def _cache_dir() -> Path:
    own = os.environ.get("DECONVNET_CACHE_DIR")
    if own:
        return Path(own)
    home = os.path.expanduser("~")  # noqa: PTH111  # Path.home() raises where there is none
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(home, ".cache"), "deconvnet")


@functools.lru_cache
def _gains(file: Path) -> Gains:
    return Gains(file)


def gains() -> Gains:
    """The measurements that hold for this process as it is set up now."""
    return _gains(cache_file())
