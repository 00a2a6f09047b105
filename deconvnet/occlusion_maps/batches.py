"""What changes in every map when rectangles of the image do: planning, in integers only.

A batch of changed images has one size of patch on each map. Changes at the border of the image are
smaller than those inside, and those that lie off a stride's grid reach further: `grouped` sorts
them, so that what runs together is alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deconvnet.geometry.push import Axis, Change, Extents, Ints, axis, push
from deconvnet.geometry.region import map_size
from deconvnet.graph.nodes import Node

BATCH = 64  # changed images at a time; more gain nothing on a CPU
_GROUPS = (1, 2, 3, 4, 6, 8)  # of sizes along an axis
_CALL = 5e6  # multiply-adds that could be done while an op is called


@dataclass(frozen=True)
class ChangeGroup:
    """Changes that are recomputed together: which ones, in the caller's order, and where."""

    members: Ints
    changes: Mapping[int, Change]


class _Line:
    """n rectangles along one axis: the distinct extents, what they change, and how they group."""

    def __init__(
        self, nodes: Sequence[Node], order: Sequence[int], which: int, extents: Extents
    ) -> None:
        distinct, inverse = np.unique(np.stack(extents, 1), axis=0, return_inverse=True)
        self.of: Ints = inverse.reshape(-1)
        self.changed = push(nodes, order, which, (distinct[:, 0], distinct[:, 1]))
        self.lengths = {i: map_size(nodes[i].shape)[which] for i in self.changed}
        self.sizes = np.stack([end - start for start, end in self.changed.values()], 1)

    def group(self, costs: NDArray[np.float64], count: int) -> Ints:
        """A label below `count` for each distinct extent; the cheapest pair is merged first.

        Args:
            costs: of a cell of each map along this axis, [maps].
        """
        table, kind = np.unique(self.sizes, axis=0, return_inverse=True)
        kind = kind.reshape(-1)
        weights = np.bincount(kind[self.of], minlength=len(table)).astype(float)
        return _merged(table, weights, costs, count)[kind]

    def largest(self, labels: Ints) -> Ints:
        """The size of each label's frames, [labels, maps]."""
        return np.stack([self.sizes[labels == i].max(0) for i in range(labels.max() + 1)])

    def framed(self, labels: Ints, label: int) -> tuple[dict[int, Axis], Ints]:
        """The frames of one label, and where each distinct extent is among them."""
        rows = np.flatnonzero(labels == label)
        axes = {
            i: axis((start[rows], end[rows]), self.lengths[i])
            for i, (start, end) in self.changed.items()
        }
        place = np.zeros(len(labels), np.int64)
        place[rows] = np.arange(len(rows))
        return axes, place


def _merged(table: Ints, weights: NDArray[np.float64], costs: NDArray[np.float64], k: int) -> Ints:
    """A label below k for each row of sizes: groups are merged, the least waste first."""
    labels, alive = np.arange(len(table)), list(range(len(table)))
    tops, sizes = table * costs, weights.copy()
    while len(alive) > k:
        first, second = np.array(alive)[np.stack(np.triu_indices(len(alive), 1))]
        joint = np.maximum(tops[first], tops[second])
        waste = sizes[first] * (joint - tops[first]).sum(1)
        waste += sizes[second] * (joint - tops[second]).sum(1)
        i, j = (int(side[waste.argmin()]) for side in (first, second))
        tops[i], sizes[i] = np.maximum(tops[i], tops[j]), sizes[i] + sizes[j]
        labels[labels == j] = i
        alive.remove(j)
    return np.searchsorted(alive, labels)


def grouped(
    nodes: Sequence[Node], order: Sequence[int], y: Extents, x: Extents
) -> list[ChangeGroup]:
    """Rectangles of the image sorted into groups of nearly one size of change on every map.

    Along each axis there are so few groups that more would cost more in calls than they save in
    products.

    Args:
        order: the nodes to recompute, in order of execution.
        y, x: the rectangles, [n] each; they may overhang the image.
    """
    lines = _Line(nodes, order, 0, y), _Line(nodes, order, 1, x)
    each = [0, *(op.multiply_adds for op in (nodes[i].op for i in order) if op is not None)]
    weights = np.array(each, dtype=float)
    best: tuple[float, tuple[Ints, Ints]] | None = None
    for count in _GROUPS:
        labels = tuple(
            line.group(weights * other.sizes.mean(0), count) for line, other in (lines, lines[::-1])
        )
        cost = _cost(lines, (labels[0], labels[1]), weights)
        if best is None or cost < best[0]:
            best = cost, (labels[0], labels[1])
    assert best is not None
    return _groups(lines, best[1])


def _cost(
    lines: tuple[_Line, _Line], labels: tuple[Ints, Ints], weights: NDArray[np.float64]
) -> float:
    """Multiply-adds of all groups, with what the calls of each batch are worth."""
    rows, columns = (line.largest(label) for line, label in zip(lines, labels, strict=True))
    count = np.zeros((len(rows), len(columns)))
    np.add.at(count, (labels[0][lines[0].of], labels[1][lines[1].of]), 1)
    products = np.einsum("ap,bp,p,ab->", rows, columns, weights, count)
    return float(products + np.ceil(count / BATCH).sum() * len(weights) * _CALL)


def _groups(lines: tuple[_Line, _Line], labels: tuple[Ints, Ints]) -> list[ChangeGroup]:
    framed = [
        [line.framed(label, i) for i in range(label.max() + 1)]
        for line, label in zip(lines, labels, strict=True)
    ]
    own = [label[line.of] for line, label in zip(lines, labels, strict=True)]
    found = []
    for a, (ys, in_y) in enumerate(framed[0]):
        for b, (xs, in_x) in enumerate(framed[1]):
            members = np.flatnonzero((own[0] == a) & (own[1] == b))
            if not len(members):
                continue
            row, column = in_y[lines[0].of[members]], in_x[lines[1].of[members]]
            changes = {i: Change(ys[i].part(row), xs[i].part(column)) for i in ys}
            found.append(ChangeGroup(members, changes))
    return found
