"""Regions and windows against brute force: every pair of an input and an output, one by one."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvnet.geometry.region import Patch, Region, Span, Window, whole_patch

_SMALL = st.integers(-6, 9)
REGIONS = st.builds(Region, _SMALL, _SMALL, _SMALL, _SMALL)
FULL = REGIONS.filter(lambda region: not region.empty)
_PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))
WINDOWS = st.builds(Window, _PAIR, _PAIR, st.tuples(st.integers(0, 3), st.integers(0, 3)), _PAIR)


def _cells(region: Region) -> set[tuple[int, int]]:
    return set(product(range(region.y0, region.y1), range(region.x0, region.x1)))


def _box(cells: set[tuple[int, int]]) -> Region | None:
    """The smallest region that holds the cells."""
    if not cells:
        return None
    ys, xs = [y for y, _ in cells], [x for _, x in cells]
    return Region(min(ys), min(xs), max(ys) + 1, max(xs) + 1)


def _seen(window: Window, y: int, x: int) -> set[tuple[int, int]]:
    """The inputs that output (y, x) sees, by the definition of a sliding window."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        window.kernel, window.stride, window.padding, window.dilation
    )  # fmt: skip
    return {(y * sh - ph + a * dh, x * sw - pw + b * dw) for a in range(kh) for b in range(kw)}


@given(region=REGIONS)
def test_the_size_of_a_region_is_the_number_of_its_cells(region: Region) -> None:
    assert region.height * region.width == len(_cells(region))
    assert region.empty == (not _cells(region))


@given(region=REGIONS, height=st.integers(1, 8), width=st.integers(1, 8))
def test_clipping_keeps_the_cells_on_the_map(region: Region, height: int, width: int) -> None:
    clipped = region.clip(height, width)
    assert _cells(clipped) == _cells(region) & _cells(Region(0, 0, height, width))
    assert 0 <= clipped.y0 <= height and 0 <= clipped.x0 <= width


@given(a=REGIONS, b=REGIONS)
def test_a_hull_is_the_smallest_region_that_holds_both(a: Region, b: Region) -> None:
    box = _box(_cells(a) | _cells(b))
    assert _cells(a.hull(b)) == (_cells(box) if box else set())


@given(region=FULL, dy=_SMALL, dx=_SMALL)
def test_shifting_moves_every_cell(region: Region, dy: int, dx: int) -> None:
    assert _cells(region.shift(dy, dx)) == {(y + dy, x + dx) for y, x in _cells(region)}


@given(window=WINDOWS, out=FULL)
def test_pull_is_the_box_of_all_inputs_that_the_outputs_see(window: Window, out: Region) -> None:
    seen = set().union(*(_seen(window, y, x) for y, x in _cells(out)))
    assert window.pull(out) == _box(seen)


@given(window=WINDOWS, inputs=FULL)
def test_push_holds_every_output_that_sees_one_of_the_inputs(
    window: Window, inputs: Region
) -> None:
    cells, around = _cells(inputs), product(range(-25, 25), repeat=2)
    reached = {(y, x) for y, x in around if _seen(window, y, x) & cells}
    assert reached <= _cells(window.push(inputs))


@given(window=WINDOWS, inputs=FULL)
def test_push_is_exact_where_nothing_is_dilated(window: Window, inputs: Region) -> None:
    window = Window(window.kernel, window.stride, window.padding)
    cells, around = _cells(inputs), product(range(-25, 25), repeat=2)
    reached = {(y, x) for y, x in around if _seen(window, y, x) & cells}
    assert _cells(window.push(inputs)) == reached


@given(window=WINDOWS)
def test_nothing_sees_and_is_seen_by_nothing(window: Window) -> None:
    empty = Region(3, 3, 3, 5)
    assert window.pull(empty).empty and window.push(empty).empty


def test_the_extent_counts_the_gaps_of_dilation() -> None:
    assert Window((3, 2), dilation=(2, 4)).extent == (5, 5)


@given(windows=st.lists(WINDOWS, min_size=1, max_size=4), y=st.integers(0, 5), x=st.integers(0, 5))
def test_a_patch_pulled_through_windows_is_where_the_region_is(
    windows: list[Window], y: int, x: int
) -> None:
    patch, region = Patch(Span(1, 0, 1), Span(1, 0, 1)), Region(y, x, y + 1, x + 1)
    for window in windows:
        patch, region = patch.pull(window), window.pull(region)
    assert patch.at(y, x) == region


_SPANS = st.builds(Span, st.integers(0, 3), st.integers(-5, 5), st.integers(1, 8))


@given(a=_SPANS, b=_SPANS, length=st.integers(1, 12), position=st.integers(0, 4))
def test_the_hull_of_two_spans_holds_what_both_see_of_the_map(
    a: Span, b: Span, length: int, position: int
) -> None:
    hull = a.hull(b, length)
    held = range(hull.at(position), hull.at(position) + hull.size)
    for span in (a, b):
        seen = range(span.at(position), span.at(position) + span.size)
        assert set(seen) & set(range(length)) <= set(held)


@given(span=_SPANS, length=st.integers(1, 12), position=st.integers(0, 4))
def test_a_limited_span_holds_what_the_span_sees_of_the_map(
    span: Span, length: int, position: int
) -> None:
    limited = span.limit(length)
    seen = set(range(span.at(position), span.at(position) + span.size)) & set(range(length))
    assert seen <= set(range(limited.at(position), limited.at(position) + limited.size))


def test_a_span_that_moves_is_not_limited() -> None:
    assert Span(2, -1, 9).limit(8) == Span(2, -1, 9)


def test_the_whole_map_is_the_same_for_every_position() -> None:
    patch = whole_patch((5, 7))
    assert patch.at(0, 0) == patch.at(4, 2) == Region(0, 0, 5, 7)


@pytest.mark.parametrize(("region", "expected"), [(Region(1, 2, 3, 4), (1, 2, 3, 4))])
def test_a_region_spells_its_corners_y_first(
    region: Region, expected: tuple[int, int, int, int]
) -> None:
    assert region.astuple() == expected
