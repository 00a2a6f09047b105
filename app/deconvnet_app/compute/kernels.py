"""A layer's kernels as one sheet of equal cells, so that a page can show and link each."""

from typing import Any, Literal

import numpy as np

from deconvnet import render
from deconvnet.analyses.filters import FilterGrid


def kernel_sheet(
    grid: FilterGrid, scale: Literal["own", "shared"]
) -> tuple[render.Pixels, dict[str, int]]:
    """The sheet in the kernels' own pixels, and {columns, side} of its square cells.

    A kernel on RGB is shown in colour; a deeper one as a near-square mosaic of its input channels
    in their order, one pixel apart.
    """
    cells = []
    for weight, limits in zip(grid.weights, grid.scales(scale), strict=True):
        if grid.coloured:
            cells.append(render.signed(weight, limits))
        else:
            parts = [render.signed(channel[None], limits) for channel in weight]
            across = int(np.ceil(len(parts) ** 0.5))
            cells.append(render.tiles(parts, across, gap=1, background=render.GREY))
    columns = int(np.ceil(len(cells) ** 0.5))
    side = max(cells[0].shape[:2])
    square = [_square(cell, side) for cell in cells]
    sheet = render.tiles(square, columns, gap=0, background=render.GREY)
    return sheet, {"columns": columns, "side": side}


def _square(picture: render.Pixels, side: int) -> render.Pixels:
    if picture.shape[:2] == (side, side):
        return picture
    height, width = picture.shape[:2]
    cell = np.full((side, side, 3), render.GREY, np.uint8)
    y, x = (side - height) // 2, (side - width) // 2
    cell[y : y + height, x : x + width] = picture
    return cell


def kernel_facts(grid: FilterGrid) -> dict[str, Any]:
    """Shape and diagnostics, as JSON values."""
    return {
        "layer": grid.layer,
        "node": grid.node,
        "shape": list(grid.weights.shape),
        "coloured": grid.coloured,
        "rms": np.asarray(grid.rms, dtype=float).tolist(),
        "dead": np.asarray(grid.dead, dtype=bool).tolist(),
        "dominant": np.asarray(grid.dominant, dtype=bool).tolist(),
    }
