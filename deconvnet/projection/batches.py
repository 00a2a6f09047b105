"""Where n activations of a layer look in every map below it; integers only.

The boxes of one map have one size, so that the activations make a batch, and each has its own
offset. A box never reaches beyond its map: what an activation sees at a border is all that is
computed for it. Every box holds all that the boxes above it see of its map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deconvnet.execution.batches import chunks
from deconvnet.execution.memory import budget
from deconvnet.geometry.boxes import Boxes, NodeBoxes
from deconvnet.geometry.pull import node_boxes
from deconvnet.geometry.region import INPUT
from deconvnet.graph.network import Network
from deconvnet.graph.nodes import Node, map_cells, multiply_adds

_LIMIT = 64  # activations at a time; more gain nothing
_START = 10**8  # products that take as long as the calls of one batch
_LAYOUT = 64  # products that take as long as bringing one weight into a kernel's layout


@dataclass(frozen=True)
class ActivationGroup:
    """Activations to take together: which of all, where in their layer's map, and their boxes."""

    which: list[int]
    seed: Boxes
    boxes: NodeBoxes


def grouped(
    net: Network, place: int, ys: Sequence[int], xs: Sequence[int]
) -> list[ActivationGroup]:
    """Activations in batches that see about as much of the image, and fit into memory."""
    found = []
    for members in _alike(net, place, ys, xs):
        group = _group(net, place, ys, xs, members)
        size = _together(net, group.boxes)
        parts = list(chunks(members, size))
        found += [group] if len(parts) == 1 else [_group(net, place, ys, xs, p) for p in parts]
    return found


def _group(
    net: Network, place: int, ys: Sequence[int], xs: Sequence[int], members: Sequence[int]
) -> ActivationGroup:
    seed = Boxes(tuple([ys[i] for i in members]), tuple([xs[i] for i in members]), 1, 1)
    return ActivationGroup(list(members), seed, node_boxes(net.nodes, place, seed))


def _together(net: Network, found: NodeBoxes) -> int:
    """Activations to take at a time, by the memory of their largest parts."""
    sizes = sorted(
        (f.height * f.width * net.nodes[i].shape[0] for i, f in found.items()), reverse=True
    )
    canvas = 2 * torch.Size(net.input_size).numel()
    each = (sum(sizes[:4]) + canvas) * torch.empty((), dtype=net.dtype).element_size()
    return max(1, min(_LIMIT, budget(net.device) // each))


def _alike(net: Network, place: int, ys: Sequence[int], xs: Sequence[int]) -> list[list[int]]:
    """Positions in groups that are worth a batch of their own.

    Near the border an activation sees less of the image. A batch computes for each what its largest
    needs; that is weighed against the fixed cost of one more batch.
    """
    height, width = net.input_size[1:]
    name = net.nodes[place].name
    fields = [net.field(name, y, x).clip(height, width) for y, x in zip(ys, xs, strict=True)]
    each, fixed = net.planned(_prices, place)
    groups: list[tuple[list[int], int, int]] = []
    for i in sorted(range(len(fields)), key=lambda i: -fields[i].height * fields[i].width):
        h, w = fields[i].height, fields[i].width
        waste, best = fixed, None
        for k, (members, rows, columns) in enumerate(groups):
            after = (len(members) + 1) * max(h, rows) * max(w, columns)
            extra = each * (after - len(members) * rows * columns - h * w)
            if extra < waste:
                waste, best = extra, k
        if best is None:
            groups.append(([i], h, w))
        else:
            members, rows, columns = groups[best]
            groups[best] = ([*members, i], max(h, rows), max(w, columns))
    return [sorted(members) for members, *_ in groups]


def _prices(nodes: Sequence[Node], place: int) -> tuple[float, float]:
    """Products per pixel of a field, and those that would take as long as starting a batch."""
    found = node_boxes(nodes, place, Boxes((0,), (0,), 1, 1))
    weights = sum(op.multiply_adds for op in (nodes[i].op for i in found) if op is not None)
    _, height, width = nodes[INPUT].shape
    full = multiply_adds(nodes, map_cells(nodes, found))
    return full / (height * width), _START + _LAYOUT * weights
