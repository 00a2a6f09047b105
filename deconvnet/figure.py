"""The paper's figures from an index, as vector files with their pictures inside.

Figure 2: a random subset of each layer's units; for each, the projections of its strongest
activations over the dataset, and beside them the patches of the images that caused them. Each
projection is of one activation alone, all others in its layer set to zero.

Source: Zeiler & Fergus, arXiv:1311.2901, figure 2.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from deconvnet import render
from deconvnet.address import Unit
from deconvnet.errors import ParameterError
from deconvnet.index.reader import ActivationIndex
from deconvnet.index.store import COLUMNS

# In inches: a unit's block and what stands above it, a layer's heading, the border, the last line.
_WIDTH, _LABEL, _GAP, _HEADING, _BORDER, _LINE = 2.0, 0.13, 0.1, 0.24, 0.08, 0.16


def choose_units(index: ActivationIndex, layer: str, count: int, seed: int) -> list[Unit]:
    """A random subset of a layer's units, in order of their channels.

    Units that fire on too few images to fill their hits are drawn only where there are no others.
    """
    stats = index.layer_stats(layer)
    full = stats.fire_share * index.dataset["count"] >= index.k
    order = np.random.default_rng([seed, *layer.encode()]).permutation(index.channels(layer))
    drawn = sorted(order, key=lambda channel: not full[channel])[:count]
    return [Unit(layer, int(channel)) for channel in sorted(drawn)]


def block(index: ActivationIndex, unit: Unit) -> render.Pixels:
    """A unit's projections, and right of them its patches, with gaps: uint8 [h, w, 3]."""
    with Image.open(index.sprite(unit.layer, unit.channel)) as opened:
        sheet = np.asarray(opened.convert("RGB"))
    side = index.tile(unit.layer)
    gap = max(1, side // 20)
    rows = range(0, sheet.shape[0], side)
    halves = []
    for left in (0, COLUMNS * side):
        tiles = [
            sheet[y : y + side, left + column * side : left + (column + 1) * side]
            for y in rows
            for column in range(COLUMNS)
        ]
        halves.append(render.tiles(tiles, COLUMNS, gap=gap, background=255))
    return np.ascontiguousarray(np.hstack(halves))


def figure2(
    index: ActivationIndex,
    layers: Sequence[str] | None = None,
    units: int = 6,
    columns: int = 3,
    seed: int = 0,
) -> Figure:
    """Figure 2 of the paper for an index with sprites.

    Args:
        layers: None: all of the index's.
        units: shown per layer, drawn at random with `seed`.
        columns: units side by side.

    Raises:
        ParameterError: a layer is not in the index, or `units` or `columns` are not positive.
        IndexError_: the index holds no sprites.
    """
    if units < 1 or columns < 1:
        raise ParameterError(f"units is {units}, columns {columns}; expected at least 1 of each.")
    shown = list(layers or index.layers)
    unknown = [layer for layer in shown if layer not in index.layers]
    if unknown:
        known = ", ".join(index.layers)
        raise ParameterError(f"Layer '{unknown[0]}' is not in the index; it has {known}.")
    blocks = [
        [(unit, block(index, unit)) for unit in choose_units(index, layer, units, seed)]
        for layer in shown
    ]
    columns = min(columns, max(map(len, blocks)))
    heights = [_WIDTH * max(b.shape[0] / b.shape[1] for _, b in row) for row in blocks]
    rows = [-(-len(row) // columns) for row in blocks]
    below = [count * (height + _LABEL + _GAP) for count, height in zip(rows, heights, strict=True)]
    total = 2 * _BORDER + _LINE + sum(below) + _HEADING * len(shown)
    wide = 2 * _BORDER + columns * (_WIDTH + _GAP) - _GAP
    figure = Figure(figsize=(wide, total))
    top = total - _BORDER
    for layer, row, height, taken in zip(shown, blocks, heights, below, strict=True):
        figure.text(
            _BORDER / wide, (top - 0.17) / total, layer, fontsize=9, fontweight="bold"
        )  # fmt: skip
        top -= _HEADING
        for place, (unit, pixels) in enumerate(row):
            line, column = divmod(place, columns)
            x = _BORDER + column * (_WIDTH + _GAP)
            y = top - line * (height + _LABEL + _GAP) - _LABEL - height
            axes = figure.add_axes(
                (x / wide, y / total, _WIDTH / wide, height / total), frameon=False
            )
            axes.imshow(pixels, interpolation="nearest", aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.set_title(str(unit), fontsize=6, loc="left", pad=1)
        top -= taken
    figure.text(_BORDER / wide, 0.06 / total, _caption(index), fontsize=4.5)
    return figure


def _caption(index: ActivationIndex) -> str:
    model, dataset = index.model, index.dataset
    return (
        f"{model['name']} {model['weights_hash'][:8]} · {index.k} strongest of {dataset['count']} "
        f"images of {dataset['name']} · left: {index.rule} projections, a unit's on one scale; "
        "right: patches"
    )
