"""Activations' projections as the sheets of an index have them, by several rules on one scale."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

import deconvnet as dn
from deconvnet import render
from deconvnet.analyses.filters import FilterGrid
from deconvnet.graph.network import Network
from deconvnet.index.sheet import paste, sheet, tile_origin, tile_size
from deconvnet.index.store import COLUMNS
from deconvnet.methods import Explanation
from deconvnet.ops.base import Rule
from deconvnet.projection.project import Projection


def unit_sheets(
    net: Network, x: Tensor, units: Sequence[str], rules: Sequence[Rule]
) -> Explanation:  # fmt: skip
    """One sheet per rule: `COLUMNS` tiles a row, in the order of the units.

    Args:
        x: [n, c, H, W], an image for each unit.
        units: of one layer, each with its position.
    """
    found = {rule: _project(net, x, units, rule) for rule in rules}
    every = [one for projections in found.values() for one in projections]
    scale = render.shared_scale([one.pixels for one in every])
    pictures: dict[str, render.Pixels] = {
        rule: _draw(net, made, scale) for rule, made in found.items()
    }
    line = f"{scale.label} over {' and '.join(rules)}, zero is mid-grey"
    return Explanation({}, pictures, {"values": [one.value for one in every[: len(units)]]}, line)


def _project(net: Network, x: Tensor, units: Sequence[str], rule: Rule) -> list[Projection]:
    made = dn.project(net, x, list(units), rule)
    assert isinstance(made, list)
    return made


def _draw(net: Network, projections: Sequence[Projection], scale: render.Scale) -> render.Pixels:
    layer = projections[0].unit.layer
    side, rows = tile_size(net, layer), -(-len(projections) // COLUMNS)
    tiles = np.full((rows * COLUMNS, 3, side, side), render.GREY, np.uint8)
    for tile, one in zip(tiles, projections, strict=False):
        y0, x0, y1, x1 = one.region
        top, left = tile_origin(net, layer, *one.position)
        seen = render.signed(one.pixels[:, y0:y1, x0:x1], scale)
        paste(tile, seen.transpose(2, 0, 1), (y0 - top, x0 - left))
    return np.ascontiguousarray(sheet(tiles).transpose(1, 2, 0))


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
