"""Every kind of operation against brute force: what changes when a cell of the image does."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import deconvnet as dn
from deconvnet.geometry.boxes import Boxes
from deconvnet.geometry.pull import node_boxes
from deconvnet.geometry.push import push
from deconvnet.geometry.region import INPUT, Region, map_size
from deconvnet.ops import Op
from tests.support.judging import BOUND, image, randomise
from tests.support.networks import SIZE, Drawn, plans

CHANNELS = 4
OWN = ("reflect", "replicate")
Draw = Callable[[st.SearchStrategy[Any]], Any]
Make = Callable[[Tensor], Tensor]


def _pair(draw: Draw, low: int, high: int) -> tuple[int, int]:
    return draw(st.tuples(st.integers(low, high), st.integers(low, high)))


def _convolution(draw: Draw) -> Make:
    return nn.Conv2d(
        CHANNELS, 4, _pair(draw, 1, 3), _pair(draw, 1, 3), _pair(draw, 0, 2), _pair(draw, 1, 2),
        draw(st.sampled_from([1, 2, CHANNELS])),
    )  # fmt: skip


def _pool(draw: Draw) -> dict[str, Any]:
    kernel = _pair(draw, 1, 3)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride, ceil = _pair(draw, 1, 3), draw(st.booleans())
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil}


def _max(draw: Draw) -> Make:
    return nn.MaxPool2d(**_pool(draw), dilation=_pair(draw, 1, 2))


def _average(draw: Draw) -> Make:
    divisor = draw(st.sampled_from([None, 5]))
    return nn.AvgPool2d(
        **_pool(draw), count_include_pad=draw(st.booleans()), divisor_override=divisor
    )


def _padding(draw: Draw) -> Make:
    sides = draw(st.tuples(*[st.integers(0, 3)] * 4))
    return lambda x: F.pad(x, sides, value=0.5)


def _mirrored(draw: Draw) -> Make:
    sides, mode = draw(st.tuples(*[st.integers(0, 3)] * 4)), draw(st.sampled_from(OWN))
    return lambda x: F.pad(x, sides, mode)


def _linear(draw: Draw) -> Make:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(draw(st.integers(1, 3))))


def _one_of(*makes: Make) -> Callable[[Draw], Make]:
    return lambda draw: draw(st.sampled_from(makes))


# How to draw an operation of each kind; all weights end up positive, so that nothing cancels.
CASES: dict[str, Callable[[Draw], Make]] = {
    "convolution": _convolution,
    "max pooling": _max,
    "average pooling": _average,
    "adaptive average pooling": lambda draw: nn.AdaptiveAvgPool2d(_pair(draw, 1, 4)),
    "global average pooling": _one_of(lambda x: x.mean((2, 3))),
    "padding": _padding,
    "padding with own values": _mirrored,
    "padding of channels": _one_of(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2), value=0.5)),
    "crop": _one_of(
        lambda x: x[:, :, 1:, :-2], lambda x: x[..., ::2, 1::3], lambda x: F.pad(x, (-1, 0, -2, -1))
    ),
    "linear step": _one_of(
        nn.Upsample(scale_factor=2),
        nn.Upsample(size=(7, 3), mode="bilinear"),
        nn.PixelShuffle(2),
        nn.CircularPad2d(1),
    ),
    "linear step by a kernel": lambda draw: nn.ConvTranspose2d(
        CHANNELS, 3, _pair(draw, 1, 3), _pair(draw, 1, 3)
    ),
    "adaptive max pooling": _one_of(nn.AdaptiveMaxPool2d((9, 3)), nn.AdaptiveMaxPool2d((None, 9))),
    "fully connected": _linear,
    "head": _one_of(lambda x: x.flatten(1).softmax(1), lambda x: x.flatten(1).log_softmax(1)),
    "sum": _one_of(lambda x: x + x, lambda x: 3 - x, lambda x: x + torch.ones(4, 1, 1)),
    "scale": _one_of(lambda x: -2 * x, lambda x: x * torch.arange(1.0, 5.0).view(4, 1, 1)),
    "product": _one_of(lambda x: x * x),
    "maximum": _one_of(lambda x: torch.maximum(x, 2 * x)),
    "mean of channels": _one_of(lambda x: x.mean(1, keepdim=True)),
    "maximum of channels": _one_of(lambda x: x.amax(1, keepdim=True)),
    "slice": _one_of(lambda x: x[:, 1:3], lambda x: x.chunk(2, 1)[1], lambda x: x.split(3, 1)[0]),
    "channel shuffle": _one_of(
        lambda x: x.view(-1, 2, 2, x.size(2), x.size(3)).transpose(1, 2).reshape(x.shape)
    ),
    "concatenation": _one_of(lambda x: torch.cat([x, x], 1)),
    "batch normalisation": lambda _: nn.BatchNorm2d(CHANNELS),
    "group normalisation": lambda _: nn.GroupNorm(1, CHANNELS),
    "local response normalisation": lambda draw: nn.LocalResponseNorm(draw(st.integers(1, 6))),
    "ReLU": _one_of(F.relu, F.relu6),
    "activation": _one_of(
        F.silu, F.gelu, torch.sigmoid, nn.ELU(), torch.exp, torch.rsqrt, lambda x: x**2
    ),
    "PReLU": lambda draw: nn.PReLU(draw(st.sampled_from([1, CHANNELS]))),
    "identity": _one_of(nn.Identity(), nn.Dropout()),
    "reshape": _one_of(nn.Flatten(), lambda x: x.reshape(x.size(0), 2, x.size(2) * 2, -1)),
}
# What is not left of a traced network, or stands in it only between others (`test_other_networks`).
BETWEEN = {
    "permutation", "channels last", "expansion", "layer normalisation",
}  # fmt: skip
# The windows of these hold more than what an output sees.
HULLS = {"padding with own values"}


class _Around(nn.Module):
    """A function or a module as a module."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Tensor:
        return self.make(x)


def _positive(make: Make, size: tuple[int, int]) -> nn.Module:
    module = _Around(make)
    with torch.no_grad():
        module(torch.zeros(1, CHANNELS, *size))  # shapes what is lazy
    randomise(module)
    for parameter in module.parameters():
        parameter.data.abs_().add_(0.1)
    return module


@torch.no_grad()
def dependence(net: dn.Network) -> NDArray[np.bool_]:
    """[H, W, h, w]: whether input cell (Y, X) changes output cell (y, x), each cell tried out."""
    _, height, width = net.input_size
    x = image(net).abs() / 4
    many = x.repeat(height * width, 1, 1, 1)
    for i, (row, column) in enumerate(product(range(height), range(width))):
        many[i, :, row, column] += torch.linspace(2, 4, len(many[i]), dtype=many.dtype)
    # Not to the bit: the last one depends on how many images there are.
    differs = ((net.module(many) - net.module(x)).abs() > BOUND).any(1)
    return differs.view(height, width, *map_size(net.nodes[-1].shape)).numpy()


def _box(cells: NDArray[np.bool_]) -> Region:
    """The smallest region that holds the true cells of a map; an empty one if there are none."""
    ys, xs = cells.nonzero()
    if not len(ys):
        return Region(0, 0, 0, 0)
    return Region(int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1)


def _field(net: dn.Network, y: int, x: int) -> Region:
    return net.field(net.nodes[-1].name, y, x)


def _pushed(net: dn.Network, inputs: Region) -> Region:
    """What the engine plans to change at the end of a network, where a region of its input does."""
    (y0, y1), (x0, x1) = (
        push(net.nodes, range(1, len(net.nodes)), which, (np.array([start]), np.array([end])))[
            len(net.nodes) - 1
        ]
        for which, (start, end) in enumerate(((inputs.y0, inputs.y1), (inputs.x0, inputs.x1)))
    )
    return Region(int(y0[0]), int(x0[0]), int(y1[0]), int(x1[0]))


def _holds(outer: Region, inner: Region) -> bool:
    return inner.empty or outer.hull(inner) == outer


def _assert_same(found: Region, truth: Region) -> None:
    assert found == truth or (found.empty and truth.empty)


def _assert_frames_hold(net: dn.Network, changed: NDArray[np.bool_]) -> None:
    """All positions at a time: what is taken of the image holds all that each depends on."""
    positions = list(product(*map(range, changed.shape[2:])))
    seed = Boxes(*zip(*positions, strict=True), 1, 1)
    boxes = node_boxes(net.nodes, len(net.nodes) - 1, seed)[INPUT]
    for (y, x), top, left in zip(positions, boxes.tops, boxes.lefts, strict=True):
        taken = Region(top, left, top + boxes.height, left + boxes.width)
        assert taken.clip(*changed.shape[:2]) == taken
        assert _holds(taken, _box(changed[:, :, y, x]))


def _kinds() -> set[str]:
    """Every kind of the package's operations."""
    found, classes = set(), [Op]
    while classes:
        classes += (own := classes.pop().__subclasses__())
        found |= {
            each.kind
            for each in own
            if hasattr(each, "kind") and each.__module__.startswith("deconvnet.")
        }
    return found


def test_every_kind_of_operation_has_a_case() -> None:
    assert set(CASES) | BETWEEN == _kinds()


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=15)
@given(st.data())
def test_an_operation_s_regions_are_what_depends_on_what(kind: str, data: st.DataObject) -> None:
    size = _pair(data.draw, 5, 8)
    net = dn.trace(_positive(CASES[kind](data.draw), size), (CHANNELS, *size))
    op = net.nodes[-1].op
    assert op is not None and type(op).kind == kind
    changed = dependence(net)
    outputs = changed.shape[2:]
    # A kernel with holes has a box that may end in one; what has no window may see everything.
    exact = outputs == (1, 1) if op.window is None else op.window.dilation == (1, 1)
    exact &= kind not in HULLS
    for y, x in product(*map(range, outputs)):
        seen, truth = _field(net, y, x), _box(changed[:, :, y, x])
        assert op.window is None or op.window.pull(Region(y, x, y + 1, x + 1)) == seen
        assert _holds(seen.clip(*size), truth)
        inside = op.window is not None and seen.clip(*size) == seen
        if exact or (inside and kind not in HULLS):
            _assert_same(seen.clip(*size), truth)
    for cell in product(*map(range, size)):
        reached, truth = _pushed(net, Region(*cell, cell[0] + 1, cell[1] + 1)), _box(changed[cell])
        assert _holds(reached, truth)
        if exact:
            _assert_same(reached, truth)
    _assert_frames_hold(net, changed)


class _Meeting(nn.Module):
    """Branches of drawn reach from one map, with or without a skip, summed or joined; then more."""

    def __init__(self, kernels: list[tuple[int, int]], skip: bool, joined: bool, last: int) -> None:
        super().__init__()
        self.skip, self.joined = skip, joined
        self.branches = nn.ModuleList(
            nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
            for kernel in kernels
        )
        self.last = nn.MaxPool2d(3, last, 1) if last else nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [branch(x) for branch in self.branches] + [x] * self.skip
        if self.joined:
            return self.last(torch.cat(parts, 1))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return self.last(total)


@settings(max_examples=25)
@given(st.data())
def test_where_branches_part_and_meet_the_hull_is_what_depends_on_what(data: st.DataObject) -> None:
    kernels = data.draw(st.lists(st.sampled_from([(1, 1), (1, 5), (3, 1), (5, 3)]), min_size=1,
                                 max_size=3))  # fmt: skip
    skip, joined = data.draw(st.booleans()), data.draw(st.booleans())
    size = _pair(data.draw, 7, 10)
    module = _positive(_Meeting(kernels, skip, joined, data.draw(st.integers(0, 3))), size)
    net = dn.trace(module, (CHANNELS, *size))
    changed = dependence(net)
    # A high and a wide kernel see a cross; what a stride takes of it may miss all but its box.
    exact = tuple(map(max, zip(*kernels, strict=True))) in kernels
    for y, x in product(*map(range, changed.shape[2:])):
        seen, truth = _field(net, y, x).clip(*size), _box(changed[:, :, y, x])
        assert seen == truth if exact else _holds(seen, truth)
    for y, x in product(*map(range, size)):
        reached, truth = _pushed(net, Region(y, x, y + 1, x + 1)), _box(changed[y, x])
        assert _holds(reached, truth)
        if exact:
            _assert_same(reached, truth)
    _assert_frames_hold(net, changed)


@settings(max_examples=15)
@given(plans())
def test_the_frames_of_any_network_hold_what_its_outputs_depend_on(plan: list[str]) -> None:
    net = dn.trace(randomise(Drawn(plan)), (3, *SIZE))
    _assert_frames_hold(net, dependence(net))
