"""Patches of a map for n activations at a time, each with its own offset: cut, add, clip.

A patch may reach beyond its map; what lies there does not exist. Going down it is dropped, going up
it is padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deconvnet.region import Patch


@dataclass(frozen=True)
class Crops:
    """Patches of one node's map for n activations: their tensor and each one's first (y, x)."""

    values: Tensor
    tops: tuple[int, ...]
    lefts: tuple[int, ...]


def origins(patch: Patch, ys: Sequence[int], xs: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(patch.y.at(y) for y in ys), tuple(patch.x.at(x) for x in xs)


def overlap(top: int, size: int, other: int, length: int) -> tuple[slice, slice]:
    """[top, top+size) and [other, other+length) in each one's own coordinates, where they meet."""
    start, end = max(top, other), min(top + size, other + length)
    end = max(start, end)
    return slice(start - top, end - top), slice(start - other, end - other)


def blank(like: Tensor, n: int, patch: tuple[int, int], value: Any = 0) -> Tensor:
    """n patches of a map like `like`, filled with a value; channels-last, as convolutions like."""
    return like.new_full((n, *patch, like.shape[1]), value).permute(0, 3, 1, 2)


def cut(kept: Tensor, rows: Sequence[int], crops: Crops, border: Any) -> Tensor:
    """What a node kept, cut out for each activation; `border` beyond the map."""
    height, width = kept.shape[-2:]
    h, w = crops.values.shape[-2:]
    if not any(crops.tops) and not any(crops.lefts) and (h, w) == (height, width):
        return kept if kept.shape[0] == 1 else kept[list(rows)]
    cut = blank(kept, len(rows), (h, w), border)
    for i, (row, top, left) in enumerate(zip(rows, crops.tops, crops.lefts, strict=True)):
        to_y, from_y = overlap(top, h, 0, height)
        to_x, from_x = overlap(left, w, 0, width)
        cut[i, :, to_y, to_x] = kept[row if kept.shape[0] > 1 else 0, :, from_y, from_x]
    return cut


def add(into: Crops, part: Tensor, tops: Sequence[int], lefts: Sequence[int]) -> None:
    """Add patches that begin at (tops, lefts) where they meet `into`."""
    height, width = into.values.shape[-2:]
    h, w = part.shape[-2:]
    offsets = {
        (top - to_top, left - to_left)
        for top, to_top, left, to_left in zip(tops, into.tops, lefts, into.lefts, strict=True)
    }
    if len(offsets) == 1:
        dy, dx = offsets.pop()
        to_y, from_y = overlap(0, height, dy, h)
        to_x, from_x = overlap(0, width, dx, w)
        into.values[..., to_y, to_x] += part[..., from_y, from_x]
        return
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        to_y, from_y = overlap(into.tops[i], height, top, h)
        to_x, from_x = overlap(into.lefts[i], width, left, w)
        into.values[i, :, to_y, to_x] += part[i, :, from_y, from_x]


def drop_outside(crops: Crops, size: tuple[int, int]) -> None:
    """Zero what lies beyond the border of the map."""
    h, w = crops.values.shape[-2:]
    height, width = size
    for i, (top, left) in enumerate(zip(crops.tops, crops.lefts, strict=True)):
        if top < 0:
            crops.values[i, :, :-top] = 0
        if top + h > height:
            crops.values[i, :, max(0, height - top) :] = 0
        if left < 0:
            crops.values[i, :, :, :-left] = 0
        if left + w > width:
            crops.values[i, :, :, max(0, width - left) :] = 0


def fill_outside(crops: Crops, size: tuple[int, int], value: Any) -> Tensor:
    """A copy of the patches with `value` beyond the border of the map; the same where none is."""
    h, w = crops.values.shape[-2:]
    rows = [(i, t) for i, t in enumerate(crops.tops) if t < 0 or t + h > size[0]]
    columns = [(i, t) for i, t in enumerate(crops.lefts) if t < 0 or t + w > size[1]]
    if not rows and not columns:
        return crops.values
    values = crops.values.clone()
    for i, top in rows:
        values[i, :, : max(0, -top)] = value
        values[i, :, max(0, size[0] - top) :] = value
    for i, left in columns:
        values[i, :, :, : max(0, -left)] = value
        values[i, :, :, max(0, size[1] - left) :] = value
    return values


def window(
    crops: Crops, tops: Sequence[int], lefts: Sequence[int], h: int, w: int, value: Any
) -> Tensor:
    """What h×w windows at (tops, lefts) see of patches; `value` beyond. A view where it can be."""
    offsets = {
        (top - own_top, left - own_left)
        for top, own_top, left, own_left in zip(tops, crops.tops, lefts, crops.lefts, strict=True)
    }
    height, width = crops.values.shape[-2:]
    if len(offsets) == 1:
        dy, dx = next(iter(offsets))
        if dy >= 0 and dx >= 0 and dy + h <= height and dx + w <= width:
            return crops.values[..., dy : dy + h, dx : dx + w]
    seen = blank(crops.values, len(crops.tops), (h, w), value)
    for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        to_y, from_y = overlap(top, h, crops.tops[i], height)
        to_x, from_x = overlap(left, w, crops.lefts[i], width)
        seen[i, :, to_y, to_x] = crops.values[i, :, from_y, from_x]
    return seen
