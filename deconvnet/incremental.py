"""Forward passes of many images that differ from one clean image inside a small rectangle.

The clean maps are computed once. A change is then pushed up through every op's window: only the
part of each map that it can reach is recomputed, from the changed part below with a halo of clean
values, many images at a time. Exact: every recomputed value sees just the inputs it would see in a
full pass (chains, branches, skips, normalisation and global operations alike). An op that sees
everything (a fully connected layer, global pooling) runs on whole maps.

Planning (`plan_changes`, integers only) stands apart from doing (`Incremental`).

The idea is Krypton's (Nakandala, Kumar & Papakonstantinou, SIGMOD 2019), exact part.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deconvnet.graph import INPUT, Node
from deconvnet.network import Network
from deconvnet.ops.base import POINT, Op
from deconvnet.receptive import map_size

Ints = NDArray[np.int64]


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

    def part(self, which: slice) -> "Axis":
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


def axis(start: Ints, end: Ints, length: int) -> Axis:
    """Changed extents clipped to a map, in frames of one size that stay inside it."""
    start, end = start.clip(0, length), end.clip(0, length)
    end = np.maximum(start, end)
    size = max(1, int((end - start).max(initial=0)))
    return Axis(start, end, start.clip(0, length - size), size, length)


def _hull(changes: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    start, end = changes[0]
    for other, until in changes[1:]:
        gone, nothing = start >= end, other >= until
        start, end = (
            np.where(gone, other, np.where(nothing, start, np.minimum(start, other))),
            np.where(gone, until, np.where(nothing, end, np.maximum(end, until))),
        )
    return start, end


def _pushed(op: Op, size: tuple[int, int], below: Sequence[Change]) -> Change:
    axes = []
    for which, length in enumerate(size):
        parts = []
        for change in below:
            seen = change.y if which == 0 else change.x
            if op.window is None:
                parts.append((np.zeros_like(seen.start), np.full_like(seen.end, length)))
                continue
            start, end = op.window.push_axis(which, seen.start, seen.end)
            empty = seen.start >= seen.end
            parts.append((np.where(empty, 0, start), np.where(empty, 0, end)))
        axes.append(axis(*_hull(parts), length))
    return Change(*axes)


def plan_changes(
    nodes: Sequence[Node], order: Sequence[int], y: tuple[Ints, Ints], x: tuple[Ints, Ints]
) -> Mapping[int, Change]:
    """What changes in every map when rectangles of the input do.

    Args:
        order: the nodes to recompute, in order of execution.
        y, x: (start, end) of the rectangles, [n] each; they may overhang the input.
    """
    height, width = map_size(nodes[INPUT].shape)
    changes = {INPUT: Change(axis(*y, height), axis(*x, width))}
    for place in order:
        op = nodes[place].op
        assert op is not None
        below = [changes[i] for i in nodes[place].inputs]
        changes[place] = _pushed(op, map_size(nodes[place].shape), below)
    return changes


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


def _cells(first_y: Ints, first_x: Ints, h: int, w: int, width: int, plane: int = 0) -> Ints:
    """Flat places of h×w cells from (first_y, first_x) in maps of `width`, image after image."""
    rows = first_y[:, None] + np.arange(h)
    columns = first_x[:, None] + np.arange(w)
    image = np.arange(len(first_y))[:, None, None] * plane
    cells: Ints = image + rows[:, :, None] * width + columns[:, None, :]
    return cells


class Clean:
    """The clean image's maps, computed once.

    Args:
        x: [1, c, H, W].
        order: the nodes to compute, in order of execution.
    """

    def __init__(self, net: Network, x: Tensor, order: Sequence[int]) -> None:
        self.net, self.order = net, order
        self.maps: dict[int, Tensor] = {INPUT: x}
        for place in order:
            node = net.nodes[place]
            assert node.op is not None
            self.maps[place] = node.op.forward(*(self.maps[i] for i in node.inputs))


class Incremental:
    """Passes of changed copies of one image.

    Args:
        y, x: (start, end) of the changed rectangles, [n] each; they may overhang the image.
    """

    def __init__(self, clean: Clean, y: tuple[Ints, Ints], x: tuple[Ints, Ints]) -> None:
        self.net, self.order, self.clean = clean.net, clean.order, clean.maps
        self.changes = plan_changes(self.net.nodes, self.order, y, x)
        self._padded: dict[tuple[int, int], tuple[Tensor, int, int]] = {}

    def bytes_each(self) -> int:
        """Memory that one image takes, counting the largest patches."""
        sizes = sorted(
            (self.changes[p].cells * self.net.nodes[p].shape[0] for p in (INPUT, *self.order)),
            reverse=True,
        )
        return sum(sizes[:4]) * self.clean[INPUT].element_size()

    def run(self, which: slice, fill: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
        """The values of the wanted nodes for some of the changes, as their recomputed patches.

        Args:
            fill: [1, c, H, W]; inside its rectangle a changed image is this instead.
        """
        changes = {place: change.part(which) for place, change in self.changes.items()}
        values = {INPUT: self._start(changes[INPUT], fill)}
        uses = Counter(i for place in self.order for i in self.net.nodes[place].inputs)
        for place in self.order:
            node = self.net.nodes[place]
            values[place] = self._recompute(place, values, changes)
            for below in node.inputs:
                uses[below] -= 1
                if uses[below] == 0 and below not in wanted:
                    values.pop(below, None)
        return {place: values[place] for place in wanted}

    def channel_sum(self, place: int, patches: Tensor, which: slice, channel: int) -> Tensor:
        """[n]: one channel's sum over the whole map, from the clean sum and what changed."""
        clean, change = self.clean[place][:, channel], self.changes[place].part(which)
        if patches.dim() == 2 or change.whole:
            return (
                patches[:, channel].flatten(1).sum(1) if patches.dim() > 2 else patches[:, channel]
            )
        frame = (change.y.first, change.x.first, change.y.size, change.x.size)
        before = _take(clean[:, None], *frame)[..., 0]
        return clean.sum() + (patches[:, channel] - before).flatten(1).sum(1)

    def _start(self, change: Change, fill: Tensor) -> Tensor:
        frame = (change.y.first, change.x.first, change.y.size, change.x.size)
        clean, other = _take(self.clean[INPUT], *frame), _take(fill, *frame)
        inside = _inside(change.y)[:, :, None] & _inside(change.x)[:, None, :]
        mask = torch.from_numpy(inside).to(clean.device)[..., None]
        return torch.where(mask, other, clean).permute(0, 3, 1, 2)

    def _recompute(
        self, place: int, values: Mapping[int, Tensor], changes: Mapping[int, Change]
    ) -> Tensor:
        node = self.net.nodes[place]
        op, change = node.op, changes[place]
        assert op is not None
        below = [changes[i] for i in node.inputs]
        if op.window is None or (change.whole and all(c.whole for c in below)):
            return op.forward(*(self._whole(i, values[i], changes[i]) for i in node.inputs))
        aligned = op.window == POINT and all(c.same_frame(change) for c in below)
        if aligned and op.constant is None:
            return op.forward_patch(*(values[i] for i in node.inputs))
        windows = [self._window(place, i, values[i], changes[i], change) for i in node.inputs]
        constant = op.constant
        if constant is not None:
            frame = (change.y.first, change.x.first, change.y.size, change.x.size)
            constant = _take(constant.to(windows[0]), *frame).permute(0, 3, 1, 2)
        return op.forward_patch(*windows, constant=constant)

    def _whole(self, place: int, value: Tensor, change: Change) -> Tensor:
        """The whole map of a node: the clean one with its changed patch."""
        if change.whole or value.dim() == 2:
            return value
        origin = np.zeros(len(value), np.int64)
        clean = self.clean[place].permute(0, 2, 3, 1)
        maps = clean.expand(len(value), -1, -1, -1).clone(memory_format=torch.contiguous_format)
        _paste(maps, origin, origin, value, change)
        return maps.permute(0, 3, 1, 2)

    def _window(
        self, above: int, place: int, value: Tensor, change: Change, wanted: Change
    ) -> Tensor:
        """What the op at `above` sees of a node: clean values, padding, and the changed patch."""
        op = self.net.nodes[above].op
        assert op is not None and op.window is not None
        (sh, sw), (ph, pw), (eh, ew) = op.window.stride, op.window.padding, op.window.extent
        first_y, first_x = wanted.y.first * sh - ph, wanted.x.first * sw - pw
        h, w = (wanted.y.size - 1) * sh + eh, (wanted.x.size - 1) * sw + ew
        source, top, left = self._pad(above, place, h, w, op)
        windows = _take(source, first_y + top, first_x + left, h, w)
        _paste(windows, first_y, first_x, value, change)
        return windows.permute(0, 3, 1, 2)

    def _pad(self, above: int, place: int, h: int, w: int, op: Op) -> tuple[Tensor, int, int]:
        """The clean map with all the border that a window reaches; and how much comes first."""
        key = (above, place)
        if key not in self._padded:
            assert op.window is not None
            clean, all_ = self.clean[place], self.changes[above]
            (sh, sw), (top, left) = op.window.stride, op.window.padding
            bottom = int(all_.y.first.max()) * sh - top + h - clean.shape[2]
            right = int(all_.x.first.max()) * sw - left + w - clean.shape[3]
            border = (left, max(0, right), top, max(0, bottom))
            self._padded[key] = (F.pad(clean, border, value=op.pad_value), top, left)
        return self._padded[key]


def _take(source: Tensor, first_y: Ints, first_x: Ints, h: int, w: int) -> Tensor:
    """Windows of one map, [1, c, H, W] → [n, h, w, c]."""
    _, c, _, width = source.shape
    rows = source.permute(0, 2, 3, 1).reshape(-1, c)
    at = torch.from_numpy(_cells(first_y, first_x, h, w, width).reshape(-1)).to(source.device)
    return rows.index_select(0, at).view(-1, h, w, c)


def _paste(into: Tensor, first_y: Ints, first_x: Ints, value: Tensor, change: Change) -> None:
    """Write changed patches over windows [n, h, w, c] that begin at (first_y, first_x)."""
    _, h, w, c = into.shape
    to_y, to_x = change.y.first - first_y, change.x.first - first_x
    rows, columns = change.y.size, change.x.size
    target = _cells(to_y, to_x, rows, columns, w, plane=h * w).reshape(-1)
    y, x = to_y[:, None] + np.arange(rows), to_x[:, None] + np.arange(columns)
    meets = (((y >= 0) & (y < h))[:, :, None] & ((x >= 0) & (x < w))[:, None, :]).reshape(-1)
    source = value.permute(0, 2, 3, 1).reshape(-1, c)
    if not meets.all():
        source = source.index_select(0, torch.from_numpy(np.flatnonzero(meets)).to(into.device))
        target = target[meets]
    into.view(-1, c).index_copy_(0, torch.from_numpy(target).to(into.device), source)


def _inside(axis_: Axis) -> NDArray[np.bool_]:
    """[n, size]: which recomputed cells lie in the changed extent."""
    cells = axis_.first[:, None] + np.arange(axis_.size)
    inside: NDArray[np.bool_] = (cells >= axis_.start[:, None]) & (cells < axis_.end[:, None])
    return inside
