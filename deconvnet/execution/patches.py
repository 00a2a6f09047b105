"""Parts of a map for n activations at a time, each at its own place: cut, moved, laid on images.

Going down, what comes to lie beyond the border of a map does not exist; going up, it is padding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvnet.geometry.boxes import Boxes

Ints = NDArray[np.int64]


def overlap(top: int, size: int, other: int, length: int) -> tuple[slice, slice]:
    """[top, top+size) and [other, other+length) in each one's own coordinates, where they meet."""
    start, end = max(top, other), min(top + size, other + length)
    end = max(start, end)
    return slice(start - top, end - top), slice(start - other, end - other)


def blank(like: Tensor, n: int, h: int, w: int, value: Any) -> Tensor:
    """n parts of a map like `like`, filled with a value; channels-last, as convolutions like."""
    return like.new_full((n, h, w, like.shape[1]), value).permute(0, 3, 1, 2)


def cut(maps: Tensor, rows: Sequence[int], boxes: Boxes) -> Tensor:
    """Each activation's part of its image's map; of one where all have the same.

    Args:
        maps: [m, c, H, W], or one for all, [1, c, H, W].
        rows: the activations' images, [n].
    """
    if boxes.is_whole((maps.shape[2], maps.shape[3])):
        return maps if len(maps) == 1 else maps[list(rows)]
    shared, h, w = len(maps) == 1, boxes.height, boxes.width
    parts = maps.new_empty(len(rows), h, w, maps.shape[1]).permute(0, 3, 1, 2)
    for part, row, y, x in zip(parts, rows, boxes.tops, boxes.lefts, strict=True):
        part.copy_(maps[0 if shared else row, :, y : y + h, x : x + w])
    return parts


def moved(parts: Tensor, at: Boxes, to: Boxes, value: Any) -> Tensor:
    """What lies in one box of parts that lie in another; `value` beyond. A view where it can be.

    Args:
        parts: [n, c, h, w], at `at`.
    """
    if at == to:
        return parts
    offsets: list[tuple[int, int]] = [
        (y - own_y, x - own_x)
        for y, own_y, x, own_x in zip(to.tops, at.tops, to.lefts, at.lefts, strict=True)
    ]
    which: list[Any] = list(range(len(offsets)))
    if len(set(offsets)) == 1:
        (y, x), *_ = offsets
        if min(y, x) >= 0 and y + to.height <= at.height and x + to.width <= at.width:
            return parts[..., y : y + to.height, x : x + to.width]
        offsets, which = offsets[:1], [slice(None)]
    if parts.is_contiguous():  # rows are copied as they lie
        seen = parts.new_full((*parts.shape[:2], to.height, to.width), value)
    else:
        seen = blank(parts, len(parts), to.height, to.width, value)
    for i, (y, x) in zip(which, offsets, strict=True):
        to_y, from_y = overlap(y, to.height, 0, at.height)
        to_x, from_x = overlap(x, to.width, 0, at.width)
        seen[i, :, to_y, to_x] = parts[i, :, from_y, from_x]
    return seen


def paste(whole: Tensor, which: Sequence[int], parts: Tensor, boxes: Boxes) -> None:
    """Write parts to where they lie in some of the maps, [n, c, H, W]."""
    for i, part, y, x in zip(which, parts, boxes.tops, boxes.lefts, strict=True):
        whole[i, :, y : y + boxes.height, x : x + boxes.width] = part


def take(
    source: Tensor, tops: Ints, lefts: Ints, h: int, w: int, into: Tensor | None = None
) -> Tensor:
    """Windows of one map, [1, c, H, W] → [n, h, w, c]; in the memory of `into`, if given."""
    _, c, _, width = source.shape
    rows = source.permute(0, 2, 3, 1).reshape(-1, c)
    at = torch.from_numpy(_cells(tops, lefts, h, w, width).reshape(-1)).to(source.device)
    taken = rows.new_empty(len(at), c) if into is None else into.view(len(at), c)
    return torch.index_select(rows, 0, at, out=taken).view(-1, h, w, c)


def lay(into: Tensor, parts: Tensor, tops: Ints, lefts: Ints) -> None:
    """Write parts over windows; what lies beyond a window is dropped.

    Args:
        into: [n, h, w, c].
        parts: [n, c, rows, columns].
        tops, lefts: where each part begins in its window; they may be negative.
    """
    _, h, w, c = into.shape
    rows, columns = parts.shape[2:]
    source = parts.permute(0, 2, 3, 1)
    if (tops == tops[0]).all() and (lefts == lefts[0]).all():
        to_y, from_y = overlap(0, h, int(tops[0]), rows)
        to_x, from_x = overlap(0, w, int(lefts[0]), columns)
        into[:, to_y, to_x] = source[:, from_y, from_x]
        return
    target = _cells(tops, lefts, rows, columns, w, plane=h * w).reshape(-1)
    y, x = tops[:, None] + np.arange(rows), lefts[:, None] + np.arange(columns)
    meets = (((y >= 0) & (y < h))[:, :, None] & ((x >= 0) & (x < w))[:, None, :]).reshape(-1)
    source = source.reshape(-1, c)
    if not meets.all():
        source = source.index_select(0, torch.from_numpy(np.flatnonzero(meets)).to(into.device))
        target = target[meets]
    into.view(-1, c).index_copy_(0, torch.from_numpy(target).to(into.device), source)


def _cells(tops: Ints, lefts: Ints, h: int, w: int, width: int, plane: int = 0) -> Ints:
    """Flat places of h×w cells from (top, left) in maps of `width`, image after image."""
    rows = tops[:, None] + np.arange(h)
    columns = lefts[:, None] + np.arange(w)
    image = np.arange(len(tops))[:, None, None] * plane
    cells: Ints = image + rows[:, :, None] * width + columns[:, None, :]
    return cells
