"""Claim: Winograd's F(4×4, 3×3) is faster than a direct convolution on the patches of occlusion.

For each distinct layer and patch of a network's occlusion map: milliseconds of oneDNN's direct
convolution and of Winograd's, in turn, and the error of both against float64 (root mean square over
that of the output). `used` says what the engine chooses.
"""

import argparse
import statistics
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor

import deconvnet as dn
from benchmarks.common import arguments, batch, each, interleave, photographs, table
from deconvnet.execution.forward import check_input
from deconvnet.occlusion_maps.batches import BATCH, grouped
from deconvnet.occlusion_maps.winograd import Winograd, filled, fits, pays
from deconvnet.ops.conv import Conv

Shape = tuple[int, int, int, int, int]  # channels in and out, patch, images at a time


def patches(net: dn.Network, x: Tensor, size: int, stride: int) -> Counter[Shape]:
    """The shapes of the patches that 3×3 convolutions meet, and how many multiply-adds each has."""
    starts = dn.occlusion(net, x, size=size, stride=stride).positions.reshape(-1, 2).numpy()
    extents = [(axis, axis + size) for axis in starts.T]
    order = range(1, len(net.nodes))
    found: Counter[Shape] = Counter()
    for group in grouped(net.nodes, order, *extents):
        for place in order:
            op, change = net.nodes[place].op, group.changes[place]
            if isinstance(op, Conv) and fits(op.window, op.groups):
                outputs, inputs = op.weight.shape[:2]
                n = min(BATCH, len(group.members))
                shape = (inputs, outputs, change.y.size, change.x.size, n)
                found[shape] += op.multiply_adds * change.cells * len(group.members)
    return found


def measure(shape: Shape, share: float, runs: int) -> list[str]:
    """One row."""
    inputs, outputs, height, width, n = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, height + 2, width + 2, inputs, generator=generator).relu()
    x = x.permute(0, 3, 1, 2)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator) * (2 / 9 / inputs) ** 0.5
    bias = torch.zeros(outputs)
    ours = Winograd(weight, bias)
    timing = interleave(lambda: ours(x), lambda: F.conv2d(x, weight, bias), runs)
    truth = F.conv2d(x.double(), weight.double())
    error = [
        float((found - truth).square().mean().sqrt() / truth.square().mean().sqrt())
        for found in (F.conv2d(x, weight, bias), ours(x))
    ]
    used = pays(inputs, outputs) and filled(height, width)
    return [
        f"{inputs} → {outputs}", f"{height}×{width}", str(n), f"{100 * share:.0f} %",
        f"{1e3 * statistics.median(timing.theirs):.1f}",
        f"{1e3 * statistics.median(timing.ours):.1f}", f"{timing.ratio:.2f}×",
        *(f"{one:.1e}" for one in error), "yes" if used else "no",
    ]  # fmt: skip


def rows_of(name: str, options: argparse.Namespace) -> list[list[str]]:
    """The shapes with the most multiply-adds for each pair of channels."""
    net = dn.load(name, weights=None, device="cpu")
    x = check_input(net, batch(net, photographs(options.images), 1))
    found = patches(net, x, options.size, options.stride)
    total, seen, rows = sum(found.values()), Counter[tuple[int, int]](), []
    for shape, products in sorted(found.items(), key=lambda item: (item[0][:2], -item[1])):
        seen[shape[:2]] += 1
        if seen[shape[:2]] <= options.shapes:
            rows.append([name, *measure(shape, products / total, options.runs)])
    return rows


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--shapes", type=int, default=3, help="patches for each pair of channels")
    options = parser.parse_args()
    models = options.models or ["vgg16", "resnet18"]
    rows = [row for name in each(models) for row in rows_of(name, options)]
    head = [
        "network", "channels", "patch", "images", "multiply-adds", "direct, ms", "Winograd, ms",
        "ratio", "error, direct", "error, Winograd", "used",
    ]  # fmt: skip
    print(table("Winograd's convolution", head, rows))


if __name__ == "__main__":
    main()
