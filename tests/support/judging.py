"""What the engine's tests share: a network beside its oracle, and the places they look at."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.execution.forward import capture, record
from deconvnet.projection.descend import descend
from tests.support.oracles import RULES, Oracle, relative_error

# Float64 carries 16 digits, and the sums are a few thousand terms deep. The outputs of the pairs
# compared here agree to 1e-14; a rule that is wrong anywhere is off by 1e-2 at least.
BOUND = 1e-9

ORACLE_KIND = {
    "ReLU": "relu",
    "concatenation": "cat",
    "sum": "sum",
    "convolution": "conv",
    "max pooling": "max",
    "average pooling": "avg",
    "batch normalisation": "norm",
    "local response normalisation": "lrn",
    "fully connected": "linear",
}


def call_of(net: dn.Network, layer: str) -> tuple[str, int]:
    """Which of the oracle's calls a layer is: its kind, and how many of that kind come before."""
    place = net.find(layer)
    kinds = [node.op.kind for node in net.nodes[1 : place + 1] if node.op is not None]
    return ORACLE_KIND[kinds[-1]], kinds.count(kinds[-1]) - 1


def image(net: dn.Network, seed: int = 0, n: int = 1) -> Tensor:
    """n random images in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *net.input_size, generator=generator, dtype=torch.float64)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 and eval mode, its batch norms with statistics that matter."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor, low, high in (
                (part.running_mean, -0.3, 0.3), (part.running_var, 0.5, 2.0),
                (part.weight, -1.5, 1.5), (part.bias, -0.3, 0.3),
            ):  # fmt: skip
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)
    return module.double().eval()


def places(value: Tensor, corners: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """(channel, y, x), or (feature,): the strongest at each corner, and the strongest of all.

    Corners are fractions of the map: (0, 0) is its first position, (1, 1) its last.
    """
    if value.dim() == 1:
        return [(int(value.argmax()),)]
    channels, height, width = value.shape
    best = int(value.argmax())
    found = {(best // (height * width), best // width % height, best % width)}
    for down, right in corners:
        y, x = down * (height - 1), right * (width - 1)
        found.add((int(value[:, y, x].abs().argmax()), y, x))
    assert channels > max(channel for channel, *_ in found)
    return sorted(found)


def spell(layer: str, place: tuple[int, ...]) -> str:
    """The unit at a place of a layer."""
    where = f"@{place[1]},{place[2]}" if len(place) > 1 else ""
    return f"{layer}:{place[0]}{where}"


def assert_agrees(
    net: dn.Network,
    module: nn.Module,
    layers: Sequence[str],
    corners: Sequence[tuple[int, int]] = ((0, 0), (1, 1)),
    rules: Sequence[str] = RULES,
    lrn: str = "identity",
    seed: int = 0,
) -> None:
    """Every given layer, at its corners and its strongest place, against the oracle.

    Each activation is projected twice: by `project`, which may run only what it sees, and from a
    record of the whole image.
    """
    x = image(net, seed)
    oracle = Oracle(module, x)
    for layer in layers:
        kind, k = call_of(net, layer)
        value = oracle.value(kind, k)
        assert relative_error(capture(net, x, [layer])[layer][0], value) <= BOUND, layer
        chosen = places(value, corners)
        for rule in rules:
            truths = [oracle.project(kind, k, place, rule, lrn) for place in chosen]
            ours = dn.project(net, x, [spell(layer, place) for place in chosen], rule, lrn=lrn)
            whole = _from_record(net, x, layer, chosen, rule, lrn)
            for place, truth, projection, other in zip(chosen, truths, ours, whole, strict=True):
                told = f"{spell(layer, place)} by {rule}"
                assert relative_error(projection.pixels, truth) <= BOUND, told
                assert relative_error(other, truth) <= BOUND, f"{told}, from a record"
                assert projection.value == value[place].item() or abs(
                    projection.value - value[place].item()
                ) <= BOUND * abs(value[place].item()), told
                y0, x0, y1, x1 = projection.region
                outside = truth.clone()
                outside[:, y0:y1, x0:x1] = 0
                assert not outside.any(), f"{told}: the region is too small"


def _from_record(
    net: dn.Network, x: Tensor, layer: str, chosen: Sequence[tuple[int, ...]], rule: str, lrn: str
) -> Tensor:
    full = [(*place, 0, 0)[:3] for place in chosen]
    channels, ys, xs = (torch.tensor(column) for column in zip(*full, strict=True))
    rows = torch.zeros(len(chosen), dtype=torch.int64)
    return descend(net, record(net, x, [layer], rule, lrn), layer, rows, channels, ys, xs)
