"""A forward pass of nothing but what some activations see, with what going down needs.

Every value equals that of the full pass: windows take true neighbours, and padding only beyond the
true border. Values and switches are those of the same operations on the same numbers; in float32
another blocking of a convolution may round the last bit differently.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.crops import Crops, cut, fill_outside, origins, window
from deconvnet.graph import INPUT
from deconvnet.network import Network
from deconvnet.ops.base import Op, Way
from deconvnet.receptive import Plan, map_size
from deconvnet.region import Region


def multiply_adds(net: Network, patches: Plan) -> tuple[int, int]:
    """Products per activation of (a local pass, a full pass) up to the patches' top."""
    local = full = 0
    for place, patch in patches.items():
        op = net.nodes[place].op
        if op is not None:
            height, width = map_size(net.nodes[place].shape)
            local += op.multiply_adds * patch.y.size * patch.x.size
            full += op.multiply_adds * height * width
    return local, full


@dataclass(frozen=True)
class LocalRecord:
    """What one local pass keeps: the activations, [n, c, 1, 1], and per node on its patch."""

    top: Tensor
    kept: dict[int, Tensor]


class _Ascent:
    def __init__(
        self, net: Network, patches: Plan, way: Way, ys: Sequence[int], xs: Sequence[int]
    ) -> None:
        self.net, self.patches, self.way, self.ys, self.xs = net, patches, way, ys, xs
        self.crops: dict[int, Crops] = {}
        self.kept: dict[int, Tensor] = {}

    def start(self, x: Tensor, rows: Sequence[int]) -> None:
        tops, lefts = origins(self.patches[INPUT], self.ys, self.xs)
        patch = self.patches[INPUT]
        frame = Crops(x.new_empty(len(rows), 0, patch.y.size, patch.x.size), tops, lefts)
        values = cut(x, rows, frame, 0).expand(len(rows), -1, -1, -1)
        self.crops[INPUT] = Crops(values, tops, lefts)

    def _is_whole(self, place: int) -> bool:
        patch, size = self.patches[place], map_size(self.net.nodes[place].shape)
        return (patch.y.jump, patch.x.jump) == (0, 0) and (patch.y.size, patch.x.size) == size

    def step(self, place: int) -> None:
        node = self.net.nodes[place]
        op = node.op
        assert op is not None
        n = len(self.ys)
        if len(node.shape) == 1 or (
            self._is_whole(place) and all(self._is_whole(i) for i in node.inputs)
        ):
            y, saved = op.record(self.way, *(self.crops[i].values for i in node.inputs))
            tops = lefts = (0,) * n
            if saved is not None and len(saved) < n:
                saved = saved.expand(n, *saved.shape[1:])
        else:
            tops, lefts = origins(self.patches[place], self.ys, self.xs)
            y, saved = self._local(place, op, tops, lefts)
        self.crops[place] = Crops(y, tops, lefts)
        if saved is not None:
            self.kept[place] = saved

    def _local(
        self, place: int, op: Op, tops: Sequence[int], lefts: Sequence[int]
    ) -> tuple[Tensor, Tensor | None]:
        node, patch = self.net.nodes[place], self.patches[place]
        h, w = patch.y.size, patch.x.size
        assert op.window is not None
        moved = [
            op.window.pull(Region(top, left, top + h, left + w))
            for top, left in zip(tops, lefts, strict=True)
        ]
        inputs = []
        for below in node.inputs:
            size = map_size(self.net.nodes[below].shape)
            crops = self.crops[below]
            clean = Crops(fill_outside(crops, size, op.pad_value), crops.tops, crops.lefts)
            frame = ([r.y0 for r in moved], [r.x0 for r in moved], moved[0].height, moved[0].width)
            inputs.append(window(clean, *frame, op.pad_value))
        constant = op.constant
        if constant is not None:
            frame_ = Crops(inputs[0].new_empty(len(tops), 0, h, w), tuple(tops), tuple(lefts))
            constant = cut(constant.to(inputs[0]), [0] * len(tops), frame_, 0)
        y, saved = op.record_patch(self.way, *inputs, constant=constant)
        if saved is not None:
            frame_ = Crops(saved, tuple(tops), tuple(lefts))
            saved = fill_outside(frame_, map_size(node.shape), op.gated_border)
        return y, saved


@torch.no_grad()
def record_local(
    net: Network, x: Tensor, place: int, patches: Plan, way: Way, rows: Sequence[int],
    ys: Sequence[int], xs: Sequence[int],
) -> LocalRecord:  # fmt: skip
    """The forward pass of what n activations of a node see.

    Args:
        x: [m, c, H, W]; rows index it, [n].
        patches: the plan of `place`, of which ys and xs are positions.
    """
    ascent = _Ascent(net, patches, way, ys, xs)
    ascent.start(x, rows)
    for above in sorted(patches):
        if above != INPUT:
            ascent.step(above)
    return LocalRecord(ascent.crops[place].values, ascent.kept)
