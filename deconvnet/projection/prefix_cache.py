"""The head of a walk down: what comes of a unit before anything of an image matters.

Above the first unpooling (or gate) a projection depends on the unit and on how the border clips
what it sees, not on the image: it is the walk of a unit seed times the activation's height, since
every step there is linear or a rectifier. So it is computed once for a unit, and kept until a
weight changes. The nine hits of a unit, or a unit of many images, share it.

Each head is computed by itself, for what the unit alone sees, whether it is kept or not: what is
given does not depend on which activations are asked for together, nor on what was asked before.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deconvnet.execution.memory import budget
from deconvnet.execution.patches import blank, moved
from deconvnet.geometry.boxes import Boxes, NodeBoxes, inside, whole
from deconvnet.geometry.region import INPUT, map_size
from deconvnet.graph.network import Network
from deconvnet.ops.base import BackwardRule
from deconvnet.ops.derived import State, state

_BYTES = 64 * 2**20
_SHARE = 8  # of the memory budget, at most one part in so many

Clipped = tuple[tuple[int, int, int, int], ...]  # per node, how its box lies in what was pulled
Key = tuple[BackwardRule, int, int, float, Clipped]


@dataclass(frozen=True)
class _Step:
    """A node on the way: the part that comes to it, and the box of its map that is kept."""

    place: int
    part: Boxes
    boxes: Boxes

    @property
    def clipped(self) -> tuple[int, int, int, int]:
        (y, x), (own_y, own_x) = (
            (boxes.tops[0], boxes.lefts[0]) for boxes in (self.boxes, self.part)
        )
        return y - own_y, x - own_x, self.boxes.height, self.boxes.width


def passed(net: Network, kept: Mapping[int, Tensor], place: int) -> list[int]:
    """The nodes that a seed at `place` goes down through before an image or a branch matters."""
    found = []
    while place != INPUT and place not in kept and len(net.nodes[place].inputs) == 1:
        found.append(place)
        place = net.nodes[place].inputs[0]
    return found


def _steps(net: Network, nodes: Sequence[int], end: int, y: int, x: int) -> list[_Step]:
    """The way of one activation through `nodes` to the node `end`; as `pull.node_boxes` has it."""
    found, part = [], Boxes((y,), (x,), 1, 1)
    for place in (*nodes, end):
        op, shape = net.nodes[place].op, map_size(net.nodes[place].shape)
        boxes = inside([part], shape) if op is None or op.window is not None else whole(1, shape)
        found.append(_Step(place, part, boxes))
        if place != end:
            assert op is not None
            below = map_size(net.nodes[net.nodes[place].inputs[0]].shape)
            part = whole(1, below) if op.window is None else boxes.pull(op.window)
    return found


def _laid(value: Tensor, step: _Step) -> Tensor:
    return moved(value, step.part, step.boxes, 0) if value.dim() == 4 else value


class Heads:
    """The heads of one network, the latest asked for kept.

    Args:
        net: whose; it is not kept alive.
        most: bytes to keep.

    Attributes:
        nbytes: that are kept.
    """

    def __init__(self, net: Network, most: int) -> None:
        self._net, self._most = weakref.ref(net), most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[State, Tensor]] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def of(
        self,
        now: State | None,
        backward: BackwardRule,
        steps: Sequence[_Step],
        channel: int,
        sign: float,
    ) -> Tensor:
        """One unit's, from a seed of `sign`: [1, c, h, w] on the last step's box, or [1, c].

        Args:
            now: the state of the weights on the way.
        """
        net = self._net()
        assert net is not None
        clipped = tuple(step.clipped for step in steps)
        key = (backward, steps[0].place, channel, sign, clipped)
        with self._lock:
            held = self._kept.get(key)
            if held is not None and held[0] == now:
                self._kept.move_to_end(key)
                return held[1]
        value = _walk(net, backward, steps, channel, sign)
        if now is not None:
            self._keep(key, now, value)
        return value

    def _keep(self, key: Key, now: State, value: Tensor) -> None:
        with self._lock:
            self._drop(self._kept.pop(key, None))
            self._kept[key] = (now, value)
            self.nbytes += value.nbytes
            while self.nbytes > self._most:
                self._drop(self._kept.popitem(last=False)[1])

    def _drop(self, held: tuple[State, Tensor] | None) -> None:
        self.nbytes -= 0 if held is None else held[1].nbytes


def _weights(net: Network, places: Sequence[int]) -> list[Tensor]:
    ops = (net.nodes[place].op for place in places)
    return [value for op in ops for value in vars(op).values() if isinstance(value, Tensor)]


def _walk(
    net: Network, backward: BackwardRule, steps: Sequence[_Step], channel: int, sign: float
) -> Tensor:
    shape = net.nodes[steps[0].place].shape
    value = torch.zeros(1, shape[0], dtype=net.dtype, device=net.device)
    value[0, channel] = sign
    value = value if len(shape) == 1 else value[:, :, None, None]
    for step in steps[:-1]:
        op = net.nodes[step.place].op
        assert op is not None
        (value,) = op.descend(_laid(value, step), None, backward)
    value = _laid(value, steps[-1])
    return (
        value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value.clone()
    )


_OF: "weakref.WeakKeyDictionary[Network, Heads]" = weakref.WeakKeyDictionary()


def heads_of(net: Network) -> Heads:
    """A network's own."""
    if net not in _OF:
        _OF[net] = Heads(net, min(_BYTES, budget(net.device) // _SHARE))
    return _OF[net]


def forget(net: Network) -> None:
    """Keep nothing of a network any more."""
    _OF.pop(net, None)


def descend_head(
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
        That node, and what has come to it: [n, c, h, w] on its boxes, or [n, …] where it
        is no map.
    """
    nodes = passed(net, kept, place)
    end = net.nodes[nodes[-1]].inputs[0] if nodes else place
    heads, now = heads_of(net), state(_weights(net, nodes))
    found: Tensor | None = None
    frame = boxes[end]
    signs = heights.sign().tolist()
    seeds = zip(seed.tops, seed.lefts, channels, signs, heights.abs(), strict=True)
    for i, (y, x, channel, sign, height) in enumerate(seeds):
        steps = _steps(net, nodes, end, y, x)
        value = heads.of(now, backward, steps, channel, -1.0 if sign < 0 else 1.0)
        if value.dim() != 4:
            found = value.new_empty(len(signs), *value.shape[1:]) if found is None else found
            torch.mul(value[0], height, out=found[i])
            continue
        own = steps[-1].boxes
        if found is None:
            found = blank(value, len(signs), frame.height, frame.width, 0)
        top, left = own.tops[0] - frame.tops[i], own.lefts[0] - frame.lefts[i]
        torch.mul(
            value[0], height, out=found[i, :, top : top + own.height, left : left + own.width]
        )
    assert found is not None
    return end, found
