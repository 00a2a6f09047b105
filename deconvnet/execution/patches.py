"""Parts of a map for n activations at a time, each at its own place: cut, moved, laid on images.

Going down, what comes to lie beyond the border of a map does not exist; going up, it is padding.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from deconvnet.geometry.boxes import Boxes


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
