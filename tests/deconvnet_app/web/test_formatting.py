"""Numbers as people read them, and the geometry of charts."""

import re

import numpy as np
import pytest

from deconvnet.address import Unit
from deconvnet_app.urls import Urls, twin, with_query
from deconvnet_app.web import charts, formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3.98213, "3.98"), (12.0, "12.0"), (0.000012, "1.20e-05"), (1302, "1\u202f302"),
     (-0.5, "-0.500"), (float("nan"), "–"), (123.4, "123")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.004, "0.4 %"), (0.0825, "8.2 %"), (0.5, "50 %"), (1, "100 %"), (0.05, "5 %")],
)
def test_shares_are_percentages(share: float, text: str) -> None:
    assert formatting.percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 second"), (59, "59 seconds"), (61, "1 minute"), (7300, "2 hours"), (2e5, "2 days")],
)
def test_spans_are_in_their_largest_unit(seconds: float, text: str) -> None:
    assert formatting.span(seconds) == text


def test_a_histogram_keeps_every_count_in_its_table() -> None:
    chart = charts.histogram("t", [0, 1, 2, 3], [100, 0, 1], "image")
    assert chart is not None
    assert [row[1] for row in chart.rows] == ["100", "0", "1"]
    assert len(chart.bars) == 2
    assert chart.bars[0].height == pytest.approx(60)
    assert chart.bars[1].height == pytest.approx(6)  # by the square root
    assert all(bar.y + bar.height == pytest.approx(60) for bar in chart.bars)


def test_a_distribution_of_one_value_is_no_chart() -> None:
    assert charts.distribution("t", np.ones(5), "unit") is None
    assert charts.distribution("t", np.full(5, np.nan), "unit") is None


@pytest.mark.parametrize("shape", [(64, 32, 32), (2048, 7, 7), (3, 1, 1), (4096,), (96, 110, 110)])
def test_a_volume_stays_in_its_frame(shape: tuple[int, ...]) -> None:
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", charts.volume(shape, 224))]
    xs, ys = numbers[::2], numbers[1::2]
    assert 0 <= min(xs) <= max(xs) <= 120
    assert 0 <= min(ys) <= max(ys) <= 96


def test_a_receptive_field_is_never_beyond_the_input() -> None:
    assert charts.field(83, 64).width == 100
    assert charts.field(7, 224).width == pytest.approx(3.1, abs=0.1)


def test_addresses_are_spelled_once_and_quoted() -> None:
    assert Urls.unit("zfnet64", Unit("conv5", 7)) == "/models/zfnet64/units/conv5:7"
    assert Urls.unit("a/b", Unit("layer1.0.relu:2", 7), index="x y") == (
        "/models/a%2Fb/units/layer1.0.relu:2:7?index=x+y"
    )
    assert with_query("/a", {"b": None, "c": "", "d": 0, "e": False}) == "/a?d=0"
    assert twin("/a?b=1") == "/a.json?b=1"
    assert twin("/") == "/home.json"
