"""The effective field: its side, and where its square lies."""

import numpy as np
import pytest
import torch

import deconvnet as dn
from deconvnet.geometry.region import Region
from deconvnet.projection.display import (
    SHARE,
    Display,
    display_region,
    effective_side,
    middle_of,
    unit_side,
)


def slow_side(pixels: torch.Tensor, middle: tuple[float, float]) -> int:
    """By trying every square, from the smallest."""
    energy = (pixels.double().numpy() ** 2).sum(0)
    ys, xs = np.indices(energy.shape)
    for side in range(1, 4 * max(energy.shape)):
        inside = (abs(ys - middle[0]) <= (side - 1) / 2) & (abs(xs - middle[1]) <= (side - 1) / 2)
        if energy[inside].sum() >= SHARE * energy.sum() * (1 - 1e-12):
            return side
    raise AssertionError


@pytest.mark.parametrize("middle", [(5.0, 6.0), (4.5, 6.5), (0.0, 12.0), (-2.5, 3.5)])
def test_the_side_is_that_of_the_smallest_square_with_its_share(
    middle: tuple[float, float],
) -> None:
    generator = torch.Generator().manual_seed(0)
    for spread in (1.0, 3.0, 30.0):
        ys, xs = torch.arange(11.0)[:, None], torch.arange(13.0)[None]
        weight = torch.exp(-((ys - middle[0]) ** 2 + (xs - middle[1]) ** 2) / spread)
        pixels = torch.randn(3, 11, 13, generator=generator) * weight
        assert effective_side(pixels, middle) == slow_side(pixels, middle)


def test_a_single_pixel_needs_just_its_distance_and_nothing_needs_one() -> None:
    pixels = torch.zeros(1, 9, 9)
    assert effective_side(pixels, (4.0, 4.0)) == 1
    pixels[0, 4, 7] = 2.0
    assert effective_side(pixels, (4.0, 4.0)) == 7


def test_the_side_of_a_unit_is_the_upper_quartile_of_its_hits() -> None:
    assert unit_side([10, 20, 30, 40, 50]) == 40
    assert unit_side([7]) == 7


@pytest.mark.parametrize(
    "field, side, expected",
    [
        (Region(2, 2, 12, 12), 4, (5, 5, 9, 9)),
        (Region(-8, -8, 5, 5), 6, (0, 0, 6, 6)),  # moved inside, never filled
        (Region(25, 10, 45, 30), 10, (22, 15, 32, 25)),
        (Region(0, 0, 32, 40), 100, (0, 0, 32, 40)),
    ],
)
def test_a_square_lies_in_the_middle_of_the_field_and_inside_the_image(
    field: Region, side: int, expected: tuple[int, int, int, int]
) -> None:
    assert display_region(field, side, (32, 40)).astuple() == expected


def test_a_projection_knows_its_effective_field() -> None:
    net = dn.load("zfnet64")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    p = dn.project(net, x, "conv5:7")
    shown = p.display
    assert isinstance(shown, Display)
    y0, x0, y1, x1 = shown.region
    assert 0 <= y0 < y1 <= 64 and 0 <= x0 < x1 <= 64
    assert torch.equal(shown.pixels, p.pixels[:, y0:y1, x0:x1])
    assert shown.side < shown.of == 83
    middle = middle_of(Region(*p.field))
    assert shown.side == slow_side(p.pixels, middle)
    held = float(shown.pixels.double().square().sum() / p.pixels.double().square().sum())
    assert held >= SHARE - 1e-9
