"""What changes in every map when rectangles of the image do: planning, in integers only.

A change is pushed up through every op's window. The two axes of a map are independent, so all is
planned along one axis and then the other.

A batch of changed images has one size of patch on each map. Changes at the border of the image are
smaller than those inside, and those that lie off a stride's grid reach further: `grouped` sorts
them, so that what runs together is alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deconvnet.nodes import INPUT, Node
from deconvnet.ops.base import Op
from deconvnet.receptive import map_size

Ints = NDArray[np.int64]
Extents = tuple[Ints, Ints]  # (start, end) of n rectangles along an axis, half-open

BATCH = 64  # changed images at a time; more gain nothing on a CPU
_GROUPS = (1, 2, 3, 4, 6, 8)  # of sizes along an axis
_CALL = 5e6  # multiply-adds that could be done while an op is called


@dataclass(frozen=True)
class Axis:
    """One axis of the changed parts of a map, for n images.

    Attributes:
        start, end: what may differ from the clean map, half-open, [n] each; inside the map.
        first, size: what is recomputed: `size` cells from `first` [n], inside the map, around it.
        length: of the map.
    """

    start: Ints
    end: Ints
    first: Ints
    size: int
    length: int

    @property
    def whole(self) -> bool:
        """Whether all of the map is recomputed."""
        return self.size == self.length

    def part(self, which: slice | Ints) -> "Axis":
        """The same for some of the images."""
        return Axis(self.start[which], self.end[which], self.first[which], self.size, self.length)


@dataclass(frozen=True)
class Change:
    """The changed parts of one node's map, both axes."""

    y: Axis
    x: Axis

    @property
    def whole(self) -> bool:
        """Whether all of the map is recomputed."""
        return self.y.whole and self.x.whole

    @property
    def cells(self) -> int:
        """Recomputed positions per image."""
        return self.y.size * self.x.size

    def part(self, which: slice) -> "Change":
        """The same for some of the images."""
        return Change(self.y.part(which), self.x.part(which))

    def same_frame(self, other: "Change") -> bool:
        """Whether both recompute the same cells."""
        return (
            self.y.size == other.y.size
            and self.x.size == other.x.size
            and bool((self.y.first == other.y.first).all())
            and bool((self.x.first == other.x.first).all())
        )


@dataclass(frozen=True)
class Group:
    """Changes that are recomputed together: which ones, in the caller's order, and where."""

    members: Ints
    changes: Mapping[int, Change]


def axis(extents: Extents, length: int) -> Axis:
    """Extents inside a map, in frames of one size that stay inside it."""
    start, end = extents
    size = max(1, int((end - start).max(initial=0)))
    return Axis(start, end, np.minimum(start, length - size), size, length)


def _clip(start: Ints, end: Ints, length: int) -> Extents:
    start = np.minimum(np.maximum(start, 0), length)
    return start, np.maximum(np.minimum(end, length), start)


def _hull(parts: Sequence[Extents]) -> Extents:
    start, end = parts[0]
    for other, until in parts[1:]:
        gone, nothing = start >= end, other >= until
        start, end = (
            np.where(gone, other, np.where(nothing, start, np.minimum(start, other))),
            np.where(gone, until, np.where(nothing, end, np.maximum(end, until))),
        )
    return start, end


def _push(op: Op, which: int, seen: Extents, length: int) -> Extents:
    """What changes along an axis of an op's output, of `length`, where an input has changed."""
    start, end = seen
    if op.window is None:
        return np.zeros_like(start), np.full_like(end, length)
    first, last = op.window.push_axis(which, start, end)
    empty = start >= end
    return np.where(empty, 0, first), np.where(empty, 0, last)


def push(
    nodes: Sequence[Node], order: Sequence[int], which: int, extents: Extents
) -> dict[int, Extents]:
    """Along one axis (0: y, 1: x), what changes in every map, clipped to it.

    Args:
        order: the nodes to recompute, in order of execution.
        extents: of the changed rectangles; they may overhang the image.
    """
    changed = {INPUT: _clip(*extents, map_size(nodes[INPUT].shape)[which])}
    for place in order:
        op, length = nodes[place].op, map_size(nodes[place].shape)[which]
        assert op is not None
        parts = [_push(op, which, changed[i], length) for i in nodes[place].inputs]
        changed[place] = _clip(*_hull(parts), length)
    return changed


def on_vectors(nodes: Sequence[Node], order: Sequence[int]) -> list[int]:
    """The end of a pass that has no maps any more: the fully connected layers and their heads."""
    users: dict[int, list[int]] = {}
    for place in order:
        for below in nodes[place].inputs:
            users.setdefault(below, []).append(place)
    found: list[int] = []
    for place in reversed(order):
        shapes = [nodes[i].shape for i in (place, *nodes[place].inputs)]
        if all(len(s) == 1 for s in shapes) and set(users.get(place, [])) <= set(found):
            found.append(place)
    return found[::-1]


def multiply_adds(
    nodes: Sequence[Node], order: Sequence[int], changes: Mapping[int, Change] | None
) -> int:
    """Products per image of a full pass (None) or of an incremental one."""
    total = 0
    for place in order:
        op = nodes[place].op
        assert op is not None
        height, width = map_size(nodes[place].shape)
        total += op.multiply_adds * (height * width if changes is None else changes[place].cells)
    return total


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


def grouped(nodes: Sequence[Node], order: Sequence[int], y: Extents, x: Extents) -> list[Group]:
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


def _groups(lines: tuple[_Line, _Line], labels: tuple[Ints, Ints]) -> list[Group]:
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
            found.append(Group(members, changes))
    return found
