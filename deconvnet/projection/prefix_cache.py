"""The image-independent prefix of a projection, cached per unit.

Above the first unpooling (or gate) a projection depends on the unit and on how the border clips
what it sees, not on the image: it is the walk of a unit seed times the activation's height, since
every step there is linear or a rectifier. So it is computed once for a unit, and kept until a
weight changes. The nine hits of a unit, or a unit of many images, share it.

Each prefix is computed by itself, for what the unit alone sees, whether it is kept or not: what is
given does not depend on which activations are asked for together, nor on what was asked before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from deconvnet.execution import executor
from deconvnet.execution.memory import budget
from deconvnet.execution.patches import blank, moved, overlap
from deconvnet.geometry.boxes import Boxes, NodeBoxes, whole
from deconvnet.geometry.pull import node_boxes
from deconvnet.geometry.region import INPUT, map_size
from deconvnet.graph.network import Network
from deconvnet.graph.nodes import Node
from deconvnet.ops.base import BackwardRule
from deconvnet.ops.derived import Derived, state

_BYTES = 64 * 2**20
_SHARE = 8  # of the memory budget, at most one part in so many

Clipped = tuple[tuple[int, int, int, int], ...]  # per node, how its box lies in what was pulled
Key = tuple[BackwardRule, int, int, float, Clipped]
PrefixCache = Derived[Key, Tensor]


@dataclass(frozen=True)
class _Step:
    """A node on the way: the part that comes to it, and the box of its map that is kept."""

    place: int
    part: Boxes
    own: Boxes

    @property
    def clipped(self) -> tuple[int, int, int, int]:
        top, left = self.own.tops[0] - self.part.tops[0], self.own.lefts[0] - self.part.lefts[0]
        return top, left, self.own.height, self.own.width


def passed(nodes: Sequence[Node], kept: Mapping[int, Tensor], place: int) -> list[int]:
    """The nodes that a seed at `place` goes down through before an image or a branch matters.

    The last one is where that begins: nothing is computed of it.
    """
    found = [place]
    while place != INPUT and place not in kept and len(nodes[place].inputs) == 1:
        place = nodes[place].inputs[0]
        found.append(place)
    return found


def _steps(
    nodes: Sequence[Node], way: Sequence[int], y: int, x: int
) -> tuple[list[_Step], Clipped]:
    """One activation's boxes on the way, and how they lie in what comes to each."""
    part = Boxes((y,), (x,), 1, 1)
    boxes = node_boxes(nodes, way[0], part, way[-1])
    found = []
    for place, below in zip(way, [*way[1:], INPUT], strict=True):
        found.append(_Step(place, part, boxes[place]))
        window = nodes[place].window
        part = (
            whole(1, map_size(nodes[below].shape)) if window is None else boxes[place].pull(window)
        )
    return found, tuple(step.clipped for step in found)


def _laid(value: Tensor, step: _Step) -> Tensor:
    return moved(value, step.part, step.own, 0) if value.dim() == 4 else value


def _weights(nodes: Sequence[Node], way: Sequence[int]) -> list[Tensor]:
    ops = (nodes[place].op for place in way[:-1])
    return [value for op in ops for value in vars(op).values() if isinstance(value, Tensor)]


def _prefix(
    nodes: Sequence[Node], backward: BackwardRule, steps: Sequence[_Step], channel: int,
    unit: float, like: Tensor,
) -> Tensor:  # fmt: skip
    """One channel's, from a seed of 1 or -1: [1, c, h, w] on the last box, or [1, c]."""
    at = {step.place: step for step in steps}
    first, last = steps[0], steps[-1]
    shape = nodes[first.place].shape
    value = like.new_zeros(1, shape[0])
    value[0, channel] = unit
    value = value if len(shape) == 1 else value[:, :, None, None]

    def compute(place: int, value: Tensor) -> list[Tensor]:
        op = nodes[place].op
        assert op is not None
        return op.descend(value, None, backward)

    def receive(above: int, below: int, part: Tensor, held: Tensor | None) -> Tensor:
        del above, held  # there is one way
        return _laid(part, at[below])

    value = executor.descend(
        nodes, {first.place: _laid(value, first)}, compute, receive, last.place
    )
    return (
        value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value.clone()
    )


def cache_of(net: Network) -> PrefixCache:
    """The network's own."""
    return net.planned(_make_cache, net.device)


def _make_cache(nodes: Sequence[Node], device: torch.device) -> PrefixCache:
    del nodes
    return Derived(min(_BYTES, budget(device) // _SHARE))


def descend_prefix(
    net: Network,
    kept: Mapping[int, Tensor],
    backward: BackwardRule,
    place: int,
    seed: Boxes,
    boxes: NodeBoxes,
    channels: Sequence[int],
    heights: Tensor,
) -> tuple[int, Tensor]:
    """n activations of a node down to where an image begins to matter.

    Args:
        kept: what each node kept of the pass up.
        seed: where the activations are in their layer's map.
        boxes: what they see of every map below it.
        heights: what each is seeded with, [n].

    Returns:
        That node, and what has come to it: [n, c, h, w] on its boxes, or [n, …] where it is no map.
    """
    nodes, way = net.nodes, passed(net.nodes, kept, place)
    cache, now = cache_of(net), state(_weights(nodes, way))
    steps: dict[tuple[int, int], tuple[list[_Step], Clipped]] = {}
    found: Tensor | None = None
    at = boxes[way[-1]]
    signs = heights.sign().tolist()
    seeds = zip(seed.tops, seed.lefts, channels, signs, heights.abs(), strict=True)
    for i, (y, x, channel, sign, height) in enumerate(seeds):
        if (y, x) not in steps:
            steps[y, x] = _steps(nodes, way, y, x)
        own_steps, clipped = steps[y, x]
        unit = -1.0 if sign < 0 else 1.0
        make = partial(_prefix, nodes, backward, own_steps, channel, unit, heights)
        value = cache.of((backward, place, channel, unit, clipped), now, make)
        if value.dim() != 4:
            found = value.new_empty(len(signs), *value.shape[1:]) if found is None else found
            torch.mul(value[0], height, out=found[i])
            continue
        own = own_steps[-1].own
        if found is None:
            found = blank(value, len(signs), at.height, at.width, 0)
        rows, own_rows = overlap(at.tops[i], at.height, own.tops[0], own.height)
        columns, own_columns = overlap(at.lefts[i], at.width, own.lefts[0], own.width)
        part = value[0, :, own_rows, own_columns]
        torch.mul(part, height, out=found[i, :, rows, columns])
    assert found is not None
    return way[-1], found
