"""Streaming statistics against NumPy over all values at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvnet.index.statistics import UNLABELLED, ChannelStats

RNG = np.random.default_rng(0)
VALUES = np.maximum(RNG.normal(size=(50, 4)), 0).astype(np.float32) * [1, 100, 1e-3, 0]
VALUES = VALUES.astype(np.float32)
LABELS = RNG.integers(0, 3, 50)


def streamed(values, labels, cuts=(), count=3):
    stats = ChannelStats(values.shape[1], count)
    for part, names in zip(np.split(values, cuts), np.split(labels, cuts), strict=True):
        stats.add(part, names)
    return stats


def test_moments_are_numpys():
    stats = streamed(VALUES, LABELS)
    exact = VALUES.astype(np.float64)
    # Fifty float64 additions: 50 · 2^-53 of the largest term, far below 1e-12.
    np.testing.assert_allclose(stats.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(stats.std, exact.std(0), rtol=1e-9)
    np.testing.assert_array_equal(stats.largest, VALUES.max(0))
    np.testing.assert_array_equal(stats.fire_share, (VALUES > 0).mean(0))


def test_class_means_and_selectivity_are_those_of_the_definition():
    stats = streamed(VALUES, LABELS)
    means = np.array([VALUES[c == LABELS].astype(np.float64).mean(0) for c in range(3)])
    np.testing.assert_allclose(stats.class_means, means, rtol=1e-12)
    np.testing.assert_array_equal(stats.best_class()[:3], means.argmax(0)[:3])
    most = means[:, :3].max(0)
    others = (means[:, :3].sum(0) - most) / 2
    expected = (most - others) / (most + others)
    np.testing.assert_allclose(stats.selectivity()[:3], expected, rtol=1e-12)
    assert np.isnan(stats.selectivity()[3])  # never active: undefined


def test_images_without_a_label_count_in_no_class():
    labels = np.where(np.arange(50) < 10, UNLABELLED, LABELS)
    stats = streamed(VALUES, labels)
    assert stats.count == 50
    assert stats.class_count.sum() == 40


def test_without_labels_there_is_no_class_to_name():
    stats = streamed(VALUES, np.full(50, UNLABELLED), count=0)
    assert (stats.best_class() == UNLABELLED).all()
    assert np.isnan(stats.selectivity()).all()


def test_selectivity_is_undefined_where_means_are_negative():
    stats = streamed(VALUES - np.float32(1000), LABELS)
    assert np.isnan(stats.selectivity()).all()


@pytest.mark.parametrize("channel", range(4))
def test_the_sketch_is_a_histogram_on_its_own_edges(channel):
    edges, counts = streamed(VALUES, LABELS, [1, 7, 30]).histogram(channel)
    np.testing.assert_array_equal(np.histogram(VALUES[:, channel], edges)[0], counts)
    assert counts.sum() == 50


def test_the_sketch_resolves_the_largest_value_to_a_32nd():
    edges, counts = streamed(VALUES, LABELS).histogram(1)
    assert edges[1] - edges[0] <= VALUES[:, 1].max() / 32
    assert counts[-1] > 0


def test_a_channel_that_was_always_zero_has_one_bin():
    edges, counts = streamed(VALUES, LABELS).histogram(3)
    assert edges.tolist() == [0, 1]
    assert counts.tolist() == [50]


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_the_sketch_depends_on_the_set_of_values_alone(values, cuts):
    column = np.array(values, np.float32)[:, None]
    labels = np.full(len(column), UNLABELLED)
    parts = streamed(column[::-1], labels, sorted(min(c, len(column)) for c in cuts), 0)
    whole = streamed(column, labels, (), 0)
    np.testing.assert_array_equal(parts.bins, whole.bins)
    np.testing.assert_array_equal(parts.exponent, whole.exponent)


def test_the_sums_are_the_same_bits_however_images_are_batched():
    whole, parts = streamed(VALUES, LABELS), streamed(VALUES, LABELS, [3, 4, 40])
    for name, table in whole.state().items():
        np.testing.assert_array_equal(table, parts.state()[name])


def test_stored_statistics_come_back():
    stats = streamed(VALUES, LABELS)
    for name, table in ChannelStats.restore(stats.state()).state().items():
        np.testing.assert_array_equal(table, stats.state()[name])
