"""What every benchmark shares: photographs, interleaved timing, and a table of ratios.

Machines drift by 20–40 % between runs, so both sides of a claim run in one process, in turn, and
the median of the ratios pair by pair is quoted, with the error of the result beside it.
"""

import argparse
import copy
import importlib
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

import deconvnet as dn

T = TypeVar("T")


def peer(module: str) -> ModuleType:
    """A module of another project, which the extra `bench` installs."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"'{error.name}' is not installed; benchmarks compare with it: "
            "pip install 'deconvnet[bench]'"
        ) from error


def each(items: Iterable[T]) -> Iterable[T]:
    """The items in turn, with a progress bar on stderr."""
    return tqdm(list(items), unit="network")


@dataclass(frozen=True)
class Timing:
    """Seconds of each side, run by run, in turn."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        """Median of theirs over ours: how many times faster we are."""
        return statistics.median(b / a for a, b in zip(self.ours, self.theirs, strict=True))


def interleave(
    ours: Callable[[], object], theirs: Callable[[], object], runs: int, device: str = "cpu"
) -> Timing:
    """Both sides in turn, after one warm-up of each."""
    ours(), theirs()
    pairs: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for seconds, side in zip(pairs, (ours, theirs), strict=True):
            started = time.perf_counter()
            side()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    return Timing(*pairs)


def photographs(folder: str | None) -> list[Path]:
    """The photographs to measure on: a folder's, else those that come with scikit-image."""
    if folder is None:
        root = Path(str(peer("skimage").__file__)).parent / "data"
        names = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
        return [root / name for name in names if (root / name).exists()]
    found = sorted(
        p for p in Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    if not found:
        raise SystemExit(f"'{folder}' has no photographs (.jpg, .jpeg, .png).")
    return found


def batch(net: dn.Network, paths: Sequence[Path], count: int) -> Tensor:
    """[count, 3, H, W], the photographs in turn."""
    images = [net.preprocess(Image.open(paths[i % len(paths)])) for i in range(count)]
    return torch.cat(images).to(net.device)


def stock(net: dn.Network) -> nn.Module:
    """The module as it ships: `load` lays its weights out channels-last, peers do not."""
    return copy.deepcopy(net.module).to(memory_format=torch.contiguous_format)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    told = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", told.read_text()) if told.exists() else None
    return found.group(1) if found else platform.processor() or platform.machine()


def versions(*packages: str) -> str:
    """One line: the machine, threads and the versions of what was compared."""
    parts = [f"{processor()}, {os.cpu_count()} cores", f"{torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts += [platform.system(), f"Python {platform.python_version()}"]
    for package in ("torch", "torchvision", *packages):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} absent")
    return "; ".join(parts)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *packages: str) -> str:
    """A Markdown table under a heading, with the versions below."""
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", versions(*packages), ""])


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--models", nargs="+", help="networks of the zoo, with random weights")
    parser.add_argument("--images", help="a folder of photographs; default: scikit-image's own")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each side")
    parser.add_argument("--device", default="cpu")
    return parser
