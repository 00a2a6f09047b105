"""Tensors to pictures: the only place where contrast and colour are chosen.

Every function names what it does to the contrast, so that a picture's provenance line can say it.
Signed data (projections, filters, differences) are centred: zero is mid-grey.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pixels = NDArray[np.uint8]  # [h, w, 3]

GREY = 128


@dataclass(frozen=True)
class Scale:
    """The contrast of a signed picture: `limit` maps to white, -limit to black, 0 to mid-grey.

    Attributes:
        limit: in units of the tensor.
        label: what the provenance line says.
    """

    limit: float
    label: str


def own_scale(x: Tensor, quantile: float = 0.99) -> Scale:
    """The scale that just fits one tensor: its `quantile` of |x| among non-zero values."""
    values = x.detach().abs().flatten().float()
    values = values[values > 0]
    limit = float(torch.quantile(values[:1_000_000], quantile)) if len(values) else 1.0
    return Scale(limit or 1.0, f"own scale ±{limit:.3g} ({quantile:.1%} of |x|)")


def shared_scale(tensors: Sequence[Tensor], quantile: float = 0.99) -> Scale:
    """One scale for several tensors: the largest of their own."""
    limit = max((own_scale(x, quantile).limit for x in tensors), default=1.0)
    return Scale(limit, f"shared scale ±{limit:.3g}")


def signed(x: Tensor, scale: Scale | None = None) -> Pixels:
    """[3, h, w] (or [1, h, w]) around zero → uint8 [h, w, 3], zero as mid-grey."""
    scale = scale or own_scale(x)
    y = (x.detach().float().cpu() / scale.limit).clamp(-1, 1) * 127 + GREY
    pixels: Pixels = y.round().to(torch.uint8).expand(3, *x.shape[1:]).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)


def photo(x: Tensor) -> Pixels:
    """[3, h, w] in [0, 1] → uint8 [h, w, 3]."""
    y = (x.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(y.permute(1, 2, 0).numpy())


def enlarge(pixels: Pixels, size: int, *, smooth: bool = False) -> Pixels:
    """Scale a tile so that its longer side is `size`; blocks by default, so pixels stay visible."""
    height, width = pixels.shape[:2]
    factor = size / max(height, width)
    shape = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(shape, how))


def tiles(pictures: Sequence[Pixels], columns: int, *, gap: int = 2, background: int = 0) -> Pixels:
    """Pictures of one size or smaller, row by row, each centred in a cell of the largest size."""
    height = max(p.shape[0] for p in pictures)
    width = max(p.shape[1] for p in pictures)
    rows = -(-len(pictures) // columns)
    shape = (rows * (height + gap) + gap, columns * (width + gap) + gap, 3)
    sheet: Pixels = np.full(shape, background, np.uint8)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, columns)
        y = gap + row * (height + gap) + (height - picture.shape[0]) // 2
        x = gap + column * (width + gap) + (width - picture.shape[1]) // 2
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


_OKABE_ITO = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000",
)  # fmt: skip
OTHER = "#999999"


def palette(count: int) -> list[str]:
    """Colours told apart without full colour vision (Okabe & Ito); past eight, one grey."""
    return [_OKABE_ITO[i] if i < len(_OKABE_ITO) else OTHER for i in range(count)]


def _coloured(values: Tensor, low: float, high: float, name: str) -> Pixels:
    fraction = ((values.detach().float().cpu() - low) / ((high - low) or 1.0)).clamp(0, 1)
    rgba = colormaps[name](fraction.numpy(), bytes=True)
    return np.ascontiguousarray(rgba[..., :3])


def sequential(values: Tensor, low: float, high: float) -> Pixels:
    """[h, w] → uint8 [h, w, 3] in viridis from `low` to `high`."""
    return _coloured(values, low, high, "viridis")


def diverging(values: Tensor, limit: float) -> Pixels:
    """[h, w] → uint8 [h, w, 3] in blue–white–red, white at zero, from -limit to limit."""
    return _coloured(values, -limit, limit, "RdBu_r")


def categorical(values: Tensor, colours: dict[int, str]) -> Pixels:
    """int [h, w] → uint8 [h, w, 3] by a table of "#rrggbb"; what is not in it is grey."""
    sheet = np.empty((*values.shape, 3), np.uint8)
    sheet[:] = rgb(OTHER)
    for value, colour in colours.items():
        sheet[(values == value).cpu().numpy()] = rgb(colour)
    return sheet


def rgb(colour: str) -> tuple[int, int, int]:
    """ "#rrggbb" as three bytes."""
    return (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16))


def over(photograph: Pixels, values: Tensor, limit: float) -> Pixels:
    """Signed values over a greyed photograph of the same size: the larger, the less shows through.

    [h, w] from -limit to limit, in blue–white–red.
    """
    luma = (photograph @ np.array([0.299, 0.587, 0.114]))[..., None]
    share = (values.detach().abs().float().cpu() / limit).clamp(0, 1).sqrt().numpy()[..., None]
    mixed = 0.8 * share * diverging(values, limit) + (1 - 0.8 * share) * luma
    pixels: Pixels = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return pixels


def save_png(pixels: Pixels) -> bytes:
    """PNG bytes of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=False)
    return buffer.getvalue()
