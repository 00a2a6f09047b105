"""What changes in every map is what is planned, and the groups lose nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deconvnet as dn
from deconvnet.execution.forward import capture
from deconvnet.geometry.push import axis, push
from deconvnet.graph.nodes import map_cells, multiply_adds, on_vectors
from deconvnet.occlusion_maps.batches import grouped
from tests.support.judging import image, randomise
from tests.support.networks import SIZE, Drawn, plans


def traced(plan: list[str]) -> dn.Network:
    """A drawn network in float64."""
    return dn.trace(randomise(Drawn(plan)), (3, *SIZE))


@pytest.mark.parametrize("length", [7, 12])
def test_frames_stay_inside_the_map_and_hold_every_change(length: int) -> None:
    start, end = np.arange(-3, length).clip(0), (np.arange(-3, length) + 4).clip(0, length)
    found = axis((start, end), length)
    assert (found.first >= 0).all()
    assert (found.first + found.size <= length).all()
    assert (found.first <= found.start).all()
    assert (found.end <= found.first + found.size).all()


@settings(max_examples=30)
@given(plans(), st.integers(0, 12), st.integers(0, 12), st.integers(1, 6))
def test_all_that_a_rectangle_changes_is_planned(
    plan: list[str], top: int, left: int, side: int
) -> None:
    net = traced(plan)
    x = image(net)
    other = x.clone()
    other[..., top : top + side, left : left + side] += 1.0
    order = range(1, len(net.nodes))
    planned = [
        push(net.nodes, order, which, (np.array([start]), np.array([start + side])))
        for which, start in enumerate((top, left))
    ]
    names = [node.name for node in net.nodes[1:]]
    before, after = (capture(net, image_, names) for image_ in (x, other))
    for place, node in enumerate(net.nodes[1:], start=1):
        if len(node.shape) < 3:
            continue
        differs = (before[node.name] != after[node.name]).any(1)[0].nonzero()
        for found, (start, end) in zip(differs.T, (p[place] for p in planned), strict=True):
            assert all(start[0] <= cell < end[0] for cell in found.tolist())


@settings(max_examples=30)
@given(plans(), st.integers(1, 12), st.integers(1, 12))
def test_every_rectangle_is_in_one_group_and_inside_its_frames(
    plan: list[str], size: int, stride: int
) -> None:
    net = traced(plan)
    order = range(1, len(net.nodes))
    starts = [np.arange(1 - size, length, stride) for length in SIZE]
    y, x = (grid.ravel() for grid in np.meshgrid(*starts, indexing="ij"))
    groups = grouped(net.nodes, order, (y, y + size), (x, x + size))
    assert sorted(np.concatenate([g.members for g in groups])) == list(range(len(y)))
    whole = [push(net.nodes, order, which, (at, at + size)) for which, at in enumerate((y, x))]
    for group in groups:
        for place, change in group.changes.items():
            for planned, own in ((whole[0], change.y), (whole[1], change.x)):
                start, end = (ends[group.members] for ends in planned[place])
                assert (own.start == start).all() and (own.end == end).all()
                assert (own.first <= start).all() and (end <= own.first + own.size).all()


def test_groups_by_size_save_what_one_size_for_all_wastes() -> None:
    net = dn.load("alexnet", weights=None, device="cpu")
    order = range(1, len(net.nodes))
    at = np.arange(-24, 224, 8)
    y, x = (grid.ravel() for grid in np.meshgrid(at, at, indexing="ij"))
    groups = grouped(net.nodes, order, (y, y + 32), (x, x + 32))
    each = sum(
        len(g.members) * multiply_adds(net.nodes, {i: c.cells for i, c in g.changes.items()})
        for g in groups
    )
    full = multiply_adds(net.nodes, map_cells(net.nodes, order)) * len(y)
    assert full / each == pytest.approx(3.3, abs=0.1)  # of 3.3 with a size for every occluder
    assert 1 < len(groups) < len(y) / 10


def test_what_runs_on_vectors_is_the_classifier_alone() -> None:
    net = dn.load("alexnet", weights=None, device="cpu")
    tail = [net.nodes[place].name for place in on_vectors(net.nodes, range(1, len(net.nodes)))]
    assert tail == [f"classifier.{i}" for i in range(len(net.module.classifier))]
