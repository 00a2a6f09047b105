"""Where n activations of a layer look in every map below it; integers only.

The frames of one map have one size, so that the activations make a batch, and each has its own
offset. A frame never reaches beyond its map: what an activation sees at a border is all that is
computed for it. Every frame holds all that the frames above it see of its map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from deconvnet.memory import budget, chunks
from deconvnet.network import Network
from deconvnet.nodes import INPUT, Node
from deconvnet.receptive import field, map_size
from deconvnet.region import Window

_LIMIT = 64  # activations at a time; more gain nothing
_START = 10**8  # products that take as long as the calls of one batch
_LAYOUT = 64  # products that take as long as bringing one weight into a kernel's layout


@dataclass(frozen=True)
class Frame:
    """The first (y, x) of each activation's part of a map, and the parts' common size."""

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int

    def pull(self, window: Window) -> "Frame":
        """What the frames see through a window; that may reach beyond the map."""
        (sh, sw), (ph, pw), (eh, ew) = window.stride, window.padding, window.extent
        if (sh, sw, ph, pw, eh, ew) == (1, 1, 0, 0, 1, 1):
            return self
        return Frame(
            tuple([top * sh - ph for top in self.tops]),
            tuple([left * sw - pw for left in self.lefts]),
            (self.height - 1) * sh + eh,
            (self.width - 1) * sw + ew,
        )

    def is_whole(self, shape: tuple[int, int]) -> bool:
        """Whether it is all of a map."""
        return (self.height, self.width) == shape


Frames = Mapping[int, Frame]


def whole(n: int, shape: tuple[int, int]) -> Frame:
    """The frame that is all of a map, for n activations."""
    return Frame((0,) * n, (0,) * n, *shape)


def _axis(parts: Sequence[tuple[tuple[int, ...], int]], length: int) -> tuple[tuple[int, ...], int]:
    """Intervals of one size inside [0, length) that hold what lies there of (firsts, size) each."""
    firsts, size = parts[0]
    if len(parts) == 1 and min(firsts) >= 0 and max(firsts) + size <= length:
        return firsts, size
    starts = [min(each) for each in zip(*(tops for tops, _ in parts), strict=True)]
    ends = [max(each) for each in zip(*([t + n for t in tops] for tops, n in parts), strict=True)]
    starts, ends = ([min(max(at, 0), length) for at in each] for each in (starts, ends))
    size = max(1, *(end - start for start, end in zip(starts, ends, strict=True)))
    return tuple([min(start, length - size) for start in starts]), size


def inside(parts: Sequence[Frame], shape: tuple[int, int]) -> Frame:
    """The smallest frame inside a map that holds all that lies there of the given ones."""
    tops, height = _axis([(part.tops, part.height) for part in parts], shape[0])
    lefts, width = _axis([(part.lefts, part.width) for part in parts], shape[1])
    only = parts[0]
    if (tops, lefts, height, width) == (only.tops, only.lefts, only.height, only.width):
        return only
    return Frame(tops, lefts, height, width)


def frames(nodes: Sequence[Node], place: int, ys: Sequence[int], xs: Sequence[int]) -> Frames:
    """For every node at or below `place`, what its positions (ys, xs) need of the node's map."""
    n = len(ys)
    seen = {place: [Frame(tuple(ys), tuple(xs), 1, 1)]}
    found: dict[int, Frame] = {}
    for above in range(place, INPUT - 1, -1):
        if above not in seen:
            continue
        op, shape = nodes[above].op, map_size(nodes[above].shape)
        everything = op is not None and op.window is None  # it goes down from its whole map
        found[above] = whole(n, shape) if everything else inside(seen[above], shape)
        for below in nodes[above].inputs:
            assert op is not None
            part = (
                whole(n, map_size(nodes[below].shape))
                if op.window is None
                else found[above].pull(op.window)
            )
            seen.setdefault(below, []).append(part)
    return found


def multiply_adds(nodes: Sequence[Node], found: Frames) -> tuple[int, int]:
    """Products of one activation's pass up through (its frames, whole maps)."""
    local = full = 0
    for place, frame in found.items():
        op = nodes[place].op
        if op is not None:
            height, width = map_size(nodes[place].shape)
            local += op.multiply_adds * frame.height * frame.width
            full += op.multiply_adds * height * width
    return local, full


@dataclass(frozen=True)
class Group:
    """Activations to take together: which of all, where in their layer's map, and their frames."""

    which: list[int]
    seed: Frame
    frames: Frames


def grouped(net: Network, place: int, ys: Sequence[int], xs: Sequence[int]) -> list[Group]:
    """Activations in batches that see about as much of the image, and fit into memory."""
    found = []
    for members in _alike(net, place, ys, xs):
        group = _group(net, place, ys, xs, members)
        size = _together(net, group.frames)
        parts = list(chunks(members, size))
        found += [group] if len(parts) == 1 else [_group(net, place, ys, xs, p) for p in parts]
    return found


def _group(
    net: Network, place: int, ys: Sequence[int], xs: Sequence[int], members: Sequence[int]
) -> Group:
    seed = Frame(tuple([ys[i] for i in members]), tuple([xs[i] for i in members]), 1, 1)
    return Group(list(members), seed, frames(net.nodes, place, seed.tops, seed.lefts))


def _together(net: Network, found: Frames) -> int:
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
    fields = [field(net, name, y, x).clip(height, width) for y, x in zip(ys, xs, strict=True)]
    each, fixed = _prices(net, place)
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


def _prices(net: Network, place: int) -> tuple[float, float]:
    """Products per pixel of a field, and those that would take as long as starting a batch."""
    key = ("prices", place)
    if key not in net.cache:
        found = frames(net.nodes, place, [0], [0])
        weights = sum(op.multiply_adds for op in (net.nodes[i].op for i in found) if op is not None)
        pixels = net.input_size[1] * net.input_size[2]
        full = multiply_adds(net.nodes, found)[1]
        net.cache[key] = (full / pixels, _START + _LAYOUT * weights)
    prices: tuple[float, float] = net.cache[key]
    return prices
