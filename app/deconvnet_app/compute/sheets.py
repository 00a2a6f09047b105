"""Activations' projections as the sheets of an index have them, by several rules on one scale."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

import deconvnet as dn
from deconvnet import render
from deconvnet.graph.network import Network
from deconvnet.index.sheet import paste, sheet, tile_origin, tile_size
from deconvnet.index.store import COLUMNS
from deconvnet.methods import Explanation
from deconvnet.projection.project import Projection
from deconvnet_app.compute.units import Rule


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
