"""How a unit is spelled."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deconvnet.address import Unit
from deconvnet.errors import AddressError, nearest

_LAYERS = st.from_regex(r"[a-z][a-z0-9_.]{0,12}(:[0-9]{1,2})?", fullmatch=True)
_NUMBERS = st.integers(0, 10**6)


@given(layer=_LAYERS, channel=_NUMBERS, place=st.none() | st.tuples(_NUMBERS, _NUMBERS))
def test_a_unit_is_read_as_it_is_written(
    layer: str, channel: int, place: tuple[int, int] | None
) -> None:
    unit = Unit(layer, channel, *(place or (None, None)))
    assert Unit.parse(str(unit)) == unit


def test_the_parts_of_a_unit_have_names() -> None:
    unit = Unit.parse("conv3:117@12,30")
    assert (unit.layer, unit.channel, unit.y, unit.x) == ("conv3", 117, 12, 30)
    assert Unit.parse("conv3:117") == Unit("conv3", 117)


def test_a_call_site_may_hold_a_colon() -> None:
    assert Unit.parse("layer1.0.relu:2:5") == Unit("layer1.0.relu:2", 5)


def test_space_around_a_unit_is_ignored() -> None:
    assert Unit.parse(" conv1:3\n") == Unit("conv1", 3)


def test_a_unit_is_taken_as_it_is() -> None:
    unit = Unit("conv1", 3)
    assert Unit.parse(unit) is unit


def test_a_unit_can_be_put_at_a_position() -> None:
    assert Unit("conv1", 3).at(4, 5) == Unit("conv1", 3, 4, 5)


def test_units_of_a_layer_sort_by_channel() -> None:
    assert sorted([Unit("conv1", 12), Unit("conv1", 2)]) == [Unit("conv1", 2), Unit("conv1", 12)]


@pytest.mark.parametrize(
    "text",
    [
        "", "conv3", "conv3:", ":3", "conv3:-1", "conv3:x", "conv3:1@2", "conv3:1@2,",
        "conv3:1@2;3", "conv3:1@-2,3", "conv 3:1", "conv3:1@2,3,4", "conv3:1.5", "conv3:1@1.5,2",
        "conv3:1\n2", "conv3:\u0663", "conv3:1@\u0661,2", "conv3:" + "9" * 5000,
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_the_right_spelling(text: str) -> None:
    with pytest.raises(AddressError, match="conv3:117@12,30"):
        Unit.parse(text)


@pytest.mark.parametrize("value", [None, 3, ["conv3:1"]])
def test_what_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(AddressError, match="is not a unit"):
        Unit.parse(value)


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", None])
def test_what_is_no_place_is_refused(value: Any) -> None:
    with pytest.raises(AddressError, match="'conv3' has channel"):
        Unit("conv3", value)
    if value is not None:
        with pytest.raises(AddressError, match=r"'conv3' has x .* expected a number from 0"):
            Unit("conv3", 1, 2, value)


def test_other_libraries_integers_become_python_s() -> None:
    unit = Unit("conv3", np.int64(7), torch.tensor(1), np.uint8(2))
    assert str(unit) == "conv3:7@1,2" and type(unit.channel) is int


def test_half_a_position_is_refused() -> None:
    with pytest.raises(AddressError, match="give y and x"):
        Unit("conv3", 1, 2)


def test_a_hint_names_each_name_once() -> None:
    assert nearest("conv9", ["conv5", "conv4", "conv5"]) == "nearest: conv5, conv4"
