"""Geometry that templates draw: bar charts, the volumes and receptive fields of the diagram."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deconvnet.index.store import COLUMNS
from deconvnet_app.web.components import Bar, Chart, Crop
from deconvnet_app.web.formatting import count, number

_HEIGHT = 60.0
_BINS = 32


def histogram(title: str, edges: Sequence[float], counts: Sequence[int], noun: str) -> Chart | None:
    """Bars of [edges[i], edges[i + 1]), their heights by the square root of the counts.

    The root keeps rare values visible beside a large pile at zero. None without counts.
    """
    if not len(counts):
        return None
    top = math.sqrt(max(1, *counts)) if len(counts) > 1 else math.sqrt(max(1, counts[0]))
    width = 240.0 / len(counts)
    bars, rows = [], []
    for place, seen in enumerate(counts):
        height = _HEIGHT * math.sqrt(seen) / top
        between = f"{number(edges[place])} to {number(edges[place + 1])}"
        rows.append((between, str(seen)))
        if seen:
            bars.append(
                Bar(
                    x=round(place * width, 2),
                    y=round(_HEIGHT - height, 2),
                    width=round(max(width - min(1.0, width / 5), 0.5), 2),
                    height=round(height, 2),
                    label=f"{between}: {count(seen, noun)}",
                )
            )
    return Chart(
        title=title,
        width=240,
        height=_HEIGHT,
        bars=bars,
        left=number(edges[0]),
        right=number(edges[-1]),
        columns=("Range", f"{noun.capitalize()}s"),
        rows=rows,
    )


def distribution(title: str, values: NDArray[np.floating], noun: str) -> Chart | None:
    """A histogram of the finite values."""
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() == finite.max():
        return None
    counts, edges = np.histogram(finite, bins=_BINS)
    return histogram(title, edges.tolist(), counts.tolist(), noun)


def volume(shape: Sequence[int], input_side: int) -> str:
    """A layer's activations as a box, an SVG path in 120 × 96.

    Height follows the map's side against the input's, depth the logarithm of the channels; a
    vector is a rod.
    """
    side = 10 + 52 * math.sqrt(shape[1] / input_side) if len(shape) > 1 else 7
    depth = 7 * math.log2(max(shape[0], 2)) - 6
    slant = side * 0.38
    left, top = (120 - depth - slant) / 2, (96 - side - slant) / 2
    x0, x1 = left, left + depth
    y0, y1 = top + slant, top + slant + side

    def at(x: float, y: float) -> str:
        return f"{x:.1f} {y:.1f}"

    front = f"M{at(x0, y0)}L{at(x1, y0)}L{at(x1, y1)}L{at(x0, y1)}Z"
    above = f"M{at(x0, y0)}L{at(x0 + slant, y0 - slant)}L{at(x1 + slant, y0 - slant)}L{at(x1, y0)}Z"
    beside = (
        f"M{at(x1, y0)}L{at(x1 + slant, y0 - slant)}L{at(x1 + slant, y1 - slant)}L{at(x1, y1)}Z"
    )
    return front + above + beside


def field(receptive_field: int, input_side: int) -> Bar:
    """The receptive field in the middle of the input, which is 100 wide; never beyond it."""
    size = max(3.0, min(100.0, 100.0 * receptive_field / input_side))
    start = round((100 - size) / 2, 1)
    return Bar(
        x=start, y=start, width=round(size, 1), height=round(size, 1), label=f"{receptive_field} px"
    )


def inset(x: int, y: int, size: int) -> dict[str, float]:
    """A square a hair smaller, so that scaling does not let its neighbours' pixels in."""
    hair = 0.004 * size
    return {"x": round(x + hair, 3), "y": round(y + hair, 3), "size": round(size - 2 * hair, 3)}


def cut(src: str, tile: int, grid: tuple[int, int], place: int, alt: str, first: int = 0) -> Crop:
    """Tile number `place` of a sheet of (rows, columns) tiles.

    Args:
        tile: its side in the sheet's pixels.
        first: the column at which the tiles begin; each row has COLUMNS of them.
    """
    row, column = divmod(place, COLUMNS)
    return Crop(
        src=src,
        sheet_width=grid[1] * tile,
        sheet_height=grid[0] * tile,
        **inset((first + column) * tile, row * tile, tile),
        alt=alt,
    )


def crops(src: str, tile: int, k: int, texts: Sequence[tuple[str, str]]) -> list[tuple[Crop, Crop]]:
    """The tiles of a unit's sheet: (projection, patch) of each hit, in order.

    Args:
        k: hits the sheet has room for.
        texts: alternative texts of each pair.
    """
    grid = (-(-k // COLUMNS), 2 * COLUMNS)
    return [
        (cut(src, tile, grid, n, a), cut(src, tile, grid, n, b, COLUMNS))
        for n, (a, b) in enumerate(texts)
    ]
