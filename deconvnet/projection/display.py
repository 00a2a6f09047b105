"""The part of a projection that is worth showing: its effective field, on its own contrast.

The theoretical field of a deep unit is nearly the whole image, its projection a speck in the middle
of it. The effective field is the smallest square around the middle of the theoretical one that
holds 98 % of the squared projection; it is moved to lie inside the image, so that nothing is filled
in. For a unit with several hits the side is the upper quartile of theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from deconvnet.geometry.region import Region

SHARE = 0.98  # of the squared projection
QUARTILE = 0.75  # of the hits' sides


def effective_side(pixels: Tensor, middle: tuple[float, float]) -> int:
    """The side of the smallest square around `middle` that holds `SHARE` of a projection's squares.

    Args:
        pixels: [c, h, w].
        middle: (y, x) of the field's middle in the pixels' own coordinates; it may lie outside.

    Returns:
        Pixels, 1 at least.
    """
    energy = pixels.detach().cpu().double().square().sum(0)
    if not float(energy.sum()) > 0:
        return 1
    away = np.maximum(
        np.abs(np.arange(energy.shape[0]) - middle[0])[:, None],
        np.abs(np.arange(energy.shape[1]) - middle[1])[None],
    ).reshape(-1)
    distances, ring = np.unique(away, return_inverse=True)
    held = np.bincount(ring, weights=energy.numpy().reshape(-1)).cumsum()
    reach = distances[int(np.searchsorted(held, SHARE * held[-1]))]
    return int(2 * reach) + 1


def unit_side(sides: Sequence[int]) -> int:
    """The side for all hits of a unit: the upper quartile of theirs."""
    return int(np.ceil(np.quantile(sides, QUARTILE))) if len(sides) else 1


def display_region(field: Region, side: int, shape: tuple[int, int]) -> Region:
    """The square of `side` around the middle of a field, moved to lie inside an image.

    Args:
        field: as it is, beyond the border too.
        side: of the square; what is longer than the image is cut.
        shape: (H, W) of the image.
    """
    height, width = min(side, shape[0]), min(side, shape[1])
    y0 = field.y0 + (field.y1 - field.y0 - height) // 2
    x0 = field.x0 + (field.x1 - field.x0 - width) // 2
    y0, x0 = min(max(y0, 0), shape[0] - height), min(max(x0, 0), shape[1] - width)
    return Region(y0, x0, y0 + height, x0 + width)


def middle_of(field: Region) -> tuple[float, float]:
    """(y, x) of a field's middle, in pixels of the image; between two pixels where it is even."""
    return (field.y0 + field.y1 - 1) / 2, (field.x0 + field.x1 - 1) / 2


@dataclass(frozen=True)
class Display:
    """A projection's effective field.

    Attributes:
        region: (y0, x0, y1, x1) in the image, inside it.
        pixels: [c, h, w], the projection there.
        side: of the effective field, in pixels.
        of: the longer side of the theoretical field.
    """

    region: tuple[int, int, int, int]
    pixels: Tensor
    side: int
    of: int

    @classmethod
    def of_projection(cls, pixels: Tensor, field: Region) -> "Display":
        """The display of a projection, [c, H, W], of a unit with that field."""
        side = effective_side(pixels, middle_of(field))
        region = display_region(field, side, (pixels.shape[1], pixels.shape[2]))
        part = pixels[:, region.y0 : region.y1, region.x0 : region.x1]
        return cls(region.astuple(), part, side, max(field.height, field.width))
