"""Sheets: the tiles of one unit in one PNG."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deconvnet.graph.network import Network
from deconvnet.index.store import COLUMNS

_COMPRESSION = 3  # of PNG: a third of the time of the default, a tenth larger


Pixels = NDArray[np.uint8]


def tile_size(net: Network, layer: str) -> int:
    """The side of a layer's tiles, in pixels: its receptive field, or the input's longer side."""
    height, width = net.input_size[1:]
    wanted = net.layer(layer).receptive_field
    return wanted if 0 < wanted <= min(height, width) else max(height, width)


def tile_origin(net: Network, layer: str, y: int, x: int) -> tuple[int, int]:
    """The first (y, x) of the tile of an activation, in pixels; it may lie beyond the image."""
    height, width = net.input_size[1:]
    side = tile_size(net, layer)
    if not 0 < net.layer(layer).receptive_field <= min(height, width):
        return (height - side) // 2, (width - side) // 2
    seen = net.field(layer, y, x)
    return seen.y0 + (seen.height - side) // 2, seen.x0 + (seen.width - side) // 2


def paste(into: NDArray[np.generic], picture: NDArray[np.generic], offset: tuple[int, int]) -> None:
    """Copy `picture` [c, h, w] to (y, x) = `offset` of `into` [c, H, W]; what sticks out is cut."""
    (dy, dx), (h, w), (height, width) = offset, picture.shape[1:], into.shape[1:]
    y0, y1, x0, x1 = max(dy, 0), min(dy + h, height), max(dx, 0), min(dx + w, width)
    if y0 < y1 and x0 < x1:
        into[:, y0:y1, x0:x1] = picture[:, y0 - dy : y1 - dy, x0 - dx : x1 - dx]


def sheet(tiles: NDArray[np.generic]) -> NDArray[np.generic]:
    """[k, 3, t, t] → [3, rows · t, COLUMNS · t], row by row; k a multiple of COLUMNS."""
    k, c, t, _ = tiles.shape
    rows = tiles.reshape(k // COLUMNS, COLUMNS, c, t, t).transpose(2, 0, 3, 1, 4)
    return rows.reshape(c, k // COLUMNS * t, COLUMNS * t)


def png(pixels: Pixels, description: str = "") -> bytes:
    """[h, w, 3] as PNG; the description is kept in it."""
    buffer, info = io.BytesIO(), PngInfo()
    if description:
        info.add_itxt("Description", description)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=_COMPRESSION, pnginfo=info)
    return buffer.getvalue()
