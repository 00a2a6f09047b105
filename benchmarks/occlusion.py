"""Claim: exact occlusion maps several times faster than the plain loop and than Captum.

Positions per second of `dn.occlusion` over its whole grid, against a plain channels_last loop and
against captum's Occlusion as shipped and in channels_last, in turn. Where the grid is large the
slow sides run a part of it: the plain loop `--positions` occluders spread over the grid, captum
windows without overlap (a stride of the window's size), since its time for a window does not depend
on the stride. Captum's windows do not overhang the border; each side is counted by its own.

The error is the largest of all logits over `--check` occluders, against the plain loop in float64,
over the largest logit; beside it that of the plain loop in float32, whose double is the bound.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

import deconvnet as dn
from benchmarks.common import (
    arguments,
    batch,
    each,
    peer,
    photographs,
    relative_error,
    stock,
    table,
)
from deconvnet.execution.forward import check_input
from deconvnet.occlusion_maps.occluder import Occluder
from deconvnet.occlusion_maps.scorer import IncrementalPasses, Scorer, WholePasses

captum = peer("captum.attr")

Side = tuple[Callable[[], object], int]  # what to run, and how many positions that is


class Logits(Scorer):
    """All outputs of each occluded image, instead of what a map shows of them."""

    def table(self, output: Tensor, activity: Tensor) -> Tensor:
        del activity
        return output.double()


def rates(sides: Sequence[Side], runs: int, device: str) -> list[list[float]]:
    """Positions per second of each side, run by run, in turn, after a warm-up of each."""
    found: list[list[float]] = [[] for _ in sides]
    for run in range(runs + 1):
        for (work, count), own in zip(sides, found, strict=True):
            started = time.perf_counter()
            work()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if run:
                own.append(count / (time.perf_counter() - started))
    return found


def spread(starts: Tensor, count: int) -> Tensor:
    """At most `count` of the occluders, evenly over the grid."""
    return starts[torch.linspace(0, len(starts) - 1, min(count, len(starts))).long()]


def captum_side(module: nn.Module, x: Tensor, size: int, stride: int, count: int) -> Side:
    """Captum's Occlusion on the whole grid, or without overlap where that is more than `count`."""

    def windows(step: int) -> int:
        return (-(-(x.shape[2] - size) // step) + 1) ** 2

    step = stride if windows(stride) <= count else size
    theirs = captum.Occlusion(module)
    options = {"target": 0, "perturbations_per_eval": 16}
    work = partial(theirs.attribute, x, (3, size, size), (3, step, step), **options)
    return work, windows(step)


def errors(net: dn.Network, x: Tensor, occluder: Occluder, starts: Tensor) -> tuple[float, float]:
    """(ours, the plain loop's): of all logits, against the plain loop in float64."""
    exact = dn.trace(net.module.double(), net.input_size, net.landmarks, net.preprocess)
    scored = [_logits(exact, WholePasses, x.double(), occluder, starts)]
    net.module.float()
    scored += [
        _logits(net, passes, x, occluder, starts) for passes in (IncrementalPasses, WholePasses)
    ]
    truth, ours, plain = scored
    return relative_error(ours, truth), relative_error(plain, truth)


def _logits(
    net: dn.Network,
    passes: type[IncrementalPasses] | type[WholePasses],
    x: Tensor,
    occluder: Occluder,
    starts: Tensor,
) -> Tensor:
    x = check_input(net, x)
    scorer = Logits(net, x, None, None)
    return passes(scorer, x, occluder.picture(net, x), occluder.size)(starts, id)


def measure(name: str, size: int, stride: int, options: argparse.Namespace) -> list[str]:
    """One row."""
    torch.manual_seed(0)
    net = dn.load(name, weights=None, device=options.device)
    x = check_input(net, batch(net, photographs(options.images), 1))
    occluder = Occluder(size, stride)
    found = dn.occlusion(net, x, size=size, stride=stride)
    starts = found.positions.reshape(-1, 2)
    part, fill = spread(starts, options.positions), occluder.picture(net, x)
    plain = WholePasses(Scorer(net, x, None, None), x, fill, size)
    shipped, nchw = stock(net), x.contiguous(memory_format=torch.contiguous_format)
    sides: list[Side] = [
        (lambda: dn.occlusion(net, x, size=size, stride=stride), len(starts)),
        (lambda: plain(part, id), len(part)),
        captum_side(shipped, nchw, size, stride, options.positions),
        captum_side(shipped, x, size, stride, options.positions),
    ]
    ours, *others = rates(sides, options.runs, options.device)
    ratios = [statistics.median(a / b for a, b in zip(ours, b, strict=True)) for b in others]
    saved = re.search(r"[\d.]+×", found.strategy)
    error, own = errors(net, x, occluder, spread(starts, options.check))
    return [
        f"{name} p{size} s{stride}", found.strategy.split(",")[0].split(";")[0],
        saved[0] if saved else "", f"{statistics.median(ours):.1f}",
        *(f"{ratio:.2f}×" for ratio in ratios), f"{error:.1e}", f"{own:.1e}",
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 16])
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--positions", type=int, default=128, help="of the slow sides, at most")
    parser.add_argument("--check", type=int, default=48, help="positions compared with float64")
    options = parser.parse_args()
    models = options.models or ["alexnet", "resnet18", "googlenet", "vgg16", "zfnet64"]
    rows = []
    for name in each(models):
        for size in [8] if name == "zfnet64" else options.sizes:
            rows.append(measure(name, size, 4 if name == "zfnet64" else options.stride, options))
    head = [
        "network", "way", "multiply-adds saved", "positions/s", "over the plain loop",
        "over captum as shipped", "over captum, channels_last", "error", "the plain loop's own",
    ]  # fmt: skip
    print(table("Occlusion", head, rows, "captum"))


if __name__ == "__main__":
    main()
