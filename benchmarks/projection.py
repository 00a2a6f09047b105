"""Claim: projections of units many times faster than Captum's NeuronDeconvolution.

Many units of one image (the forward pass left out, as it is done once), and one unit of each of
eight images with the forward pass included, as an index's hits are. What is kept of a unit from one
call to the next serves the first two columns alone; before every other run it is forgotten. Captum
runs its backward pass through the whole network for each unit; one column gives it a network cut
off at the layer, and a batch.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import deconvnet as dn
from benchmarks.common import (
    arguments,
    batch,
    each,
    interleave,
    peer,
    photographs,
    relative_error,
    stock,
    table,
)
from deconvnet.execution.forward import record
from deconvnet.projection.descend import descend

captum = peer("captum.attr")


def cut(net: dn.Network, module: nn.Module, layer: str) -> nn.Module | None:
    """The module up to the layer, where it is a chain of children; None elsewhere."""
    target = net.landmarks[layer]
    features = getattr(module, "features", None)
    if features is None or not target.startswith("features."):
        return None
    return features[: int(target.split(".")[1]) + 1]


def theirs(
    net: dn.Network, module: nn.Module, layer: str, x: Tensor, places: list[tuple[int, int, int]]
) -> Callable[[], list[Tensor]]:
    """Captum, one call per unit."""
    peer = captum.NeuronDeconvolution(module, module.get_submodule(net.landmarks[layer]))
    leaf = x.clone().requires_grad_()
    rows = [i % len(x) for i in range(len(places))]
    return lambda: [
        peer.attribute(leaf[row : row + 1], place) for row, place in zip(rows, places, strict=True)
    ]


def batched(
    net: dn.Network, module: nn.Module, layer: str, x: Tensor, places: list[tuple[int, int, int]]
) -> Callable[[], Tensor] | None:
    """Captum on the network cut off at the layer, the units in one batch."""
    part = cut(net, module, layer)
    if part is None:
        return None
    peer = captum.Deconvolution(part)
    copies = x[[i % len(x) for i in range(len(places))]].clone().requires_grad_()
    return lambda: peer.attribute(copies, target=places)


def exact(net: dn.Network, layer: str, x: Tensor, index: list[Tensor]) -> Tensor:
    """The same projections in float64, which both sides' errors are measured against."""
    double = dn.trace(copy.deepcopy(net.module).double(), net.input_size, net.landmarks)
    seeds = torch.ones(len(index[0]), dtype=torch.float64, device=x.device)
    return descend(double, record(double, x.double(), [layer]), layer, *index, values=seeds)


def measure(net: dn.Network, layer: str, x: Tensor, runs: int, device: str) -> list[str]:
    """One row: many units of one image, then one unit of each of nine."""
    c, h, w = net.layer(layer).shape
    rng = torch.Generator().manual_seed(0)
    n = 8
    places = [
        (int(torch.randint(c, (1,), generator=rng)), int(torch.randint(h, (1,), generator=rng)),
         int(torch.randint(w, (1,), generator=rng)))
        for _ in range(n)
    ]  # fmt: skip
    module, recorded = stock(net), record(net, x[:1], [layer])
    index = [torch.tensor(v, device=x.device) for v in ([0] * n, *zip(*places, strict=True))]
    one = torch.ones(n, device=x.device)
    ours = partial(descend, net, recorded, layer, *index, values=one)

    def cold() -> Tensor:
        net.refresh()
        return ours()

    truth = exact(net, layer, x[:1], index)
    errors = [
        relative_error(found.double(), truth)
        for found in (ours(), torch.cat(theirs(net, module, layer, x[:1], places)()))
    ]
    side = theirs(net, module, layer, x[:1], places)
    many, first = interleave(ours, side, runs, device), interleave(cold, side, runs, device)
    rival = batched(net, module, layer, x[:1], places)
    best = interleave(cold, rival, runs, device).ratio if rival else float("nan")
    units = [f"{layer}:{ch}@{y},{col}" for ch, y, col in places]

    def each_its_own() -> object:
        net.refresh()
        return dn.project(net, x[:n], units)

    paired = interleave(
        each_its_own,
        theirs(net, module, layer, x[:n], places),
        runs,
        device,
    )
    return [
        f"{net.name} {layer}", f"{1000 * min(many.ours) / n:.2f}",
        f"{many.ratio:.1f}×", f"{first.ratio:.1f}×", f"{best:.1f}×",
        f"{1000 * min(paired.ours) / n:.2f}", f"{paired.ratio:.1f}×",
        *(f"{error:.1e}" for error in errors),
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    options = arguments(__doc__ or "").parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in each(options.models or ["alexnet", "vgg16"]):
        net = dn.load(name, weights=None, device=options.device)
        x = batch(net, photographs(options.images), 8)
        for layer in ("conv1", "conv2", "conv3", "conv4", "conv5"):
            rows.append(measure(net, layer, x, options.runs, options.device))
    head = ["layer", "ms a unit, one image", "over captum", "the same, nothing kept",
            "over captum cut and batched",
            "ms a unit, one image each, forward included", "over captum", "error",
            "captum's error"]  # fmt: skip
    print(table("Projection", head, rows, "captum"))


if __name__ == "__main__":
    main()
