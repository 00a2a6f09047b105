"""A forward pass of nothing but what some activations see, with what going down needs.

Every value equals that of the full pass: windows take true neighbours, and padding only beyond the
true border. Values and switches are those of the same operations on the same numbers; in float32
another blocking of a convolution may round the last bit differently.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.crops import cut, moved
from deconvnet.geometry.boxes import Frames
from deconvnet.geometry.region import INPUT, map_size
from deconvnet.graph.network import Network
from deconvnet.ops.base import BackwardRule


@dataclass(frozen=True)
class LocalRecord:
    """What one local pass keeps: the activations, [n, c, 1, 1], and per node on its frame."""

    top: Tensor
    kept: dict[int, Tensor]


def _step(
    net: Network, frames: Frames, backward: BackwardRule, place: int, values: dict[int, Tensor]
) -> tuple[Tensor, Tensor | None]:
    node, frame = net.nodes[place], frames[place]
    op = node.op
    assert op is not None
    below = node.inputs
    if op.window is None or all(
        frames[i].is_whole(map_size(net.nodes[i].shape)) for i in (place, *below)
    ):
        return op.record(backward, *(values[i] for i in below))
    seen = frame.pull(op.window)
    parts = [moved(values[i], frames[i], seen, op.pad_value) for i in below]
    constant = op.constant
    if constant is not None:
        constant = cut(constant.to(parts[0]), [0] * len(parts[0]), frame)
    return op.record_patch(backward, *parts, constant=constant)


@torch.no_grad()
def record_local(
    net: Network, x: Tensor, place: int, frames: Frames, backward: BackwardRule, rows: Sequence[int]
) -> LocalRecord:
    """The forward pass of what n activations of a node see.

    Args:
        x: [m, c, H, W]; rows index it, [n].
        frames: what the activations need, down from `place`.
    """
    order = sorted(frames)
    uses = Counter(below for above in order for below in net.nodes[above].inputs)
    values = {INPUT: cut(x, rows, frames[INPUT]).expand(len(rows), -1, -1, -1)}
    kept: dict[int, Tensor] = {}
    for above in order[1:]:
        values[above], saved = _step(net, frames, backward, above, values)
        if saved is not None:
            kept[above] = saved
        for below in net.nodes[above].inputs:
            uses[below] -= 1
            if uses[below] == 0:
                values.pop(below, None)
    return LocalRecord(values[place], kept)
