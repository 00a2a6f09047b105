"""The top-k table against a full sort, in any split and order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.errors import ParameterError
from deconvnet.index.topk import EMPTY, UNGROUPED, TopK

CHANNELS = 3

# Few values and few groups, so that ties and full groups are the rule.
rows = st.lists(
    st.tuples(
        st.integers(0, CHANNELS - 1),
        st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0, 3.0]),
        st.integers(0, 30),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=60,
    unique_by=lambda row: (row[0], row[2]),  # a channel has one maximum per image
)
caps = st.sampled_from([None, 1, 2])


def group_of(image):
    return UNGROUPED if image % 5 == 0 else image % 3


def filled(rows, k, cap):
    table = TopK(CHANNELS, k, cap)
    columns = (
        [np.array(column) for column in zip(*rows, strict=True)] if rows else [np.zeros(0)] * 5
    )
    channel, value, image, y, x = columns
    groups = np.array([group_of(int(i)) for i in image])
    table.add(channel.astype(int), value.astype(np.float32), image, y=y, x=x, group=groups)
    return table


def full_sort(rows, k, cap):
    """Per channel: sort everything, strike out what exceeds a group's cap, take the first k."""
    lists = []
    for channel in range(CHANNELS):
        mine = sorted((-value, image, y, x) for c, value, image, y, x in rows if c == channel)
        taken, used = [], {}
        for entry in mine:
            group = group_of(entry[1])
            used[group] = used.get(group, 0) + 1
            if cap is None or group == UNGROUPED or used[group] <= cap:
                taken.append(entry)
        lists.append(taken[:k])
    return lists


def held(table):
    return [
        [
            (-float(table.value[c, i]), *(int(t[c, i]) for t in (table.image, table.y, table.x)))
            for i in range(table.k)
            if table.image[c, i] != EMPTY
        ]
        for c in range(table.channels)
    ]


def same(a, b):
    return all(np.array_equal(table, b.state()[name]) for name, table in a.state().items())


@given(rows, st.integers(1, 5), caps)
def test_a_table_is_the_head_of_the_full_sort(rows, k, cap):
    assert held(filled(rows, k, cap)) == full_sort(rows, k, cap)


@given(rows, st.integers(1, 5), caps, st.randoms(use_true_random=False))
def test_the_order_and_the_batches_in_which_entries_come_do_not_matter(rows, k, cap, random):
    shuffled = random.sample(rows, len(rows))
    cut = random.randint(0, len(rows))
    table = filled(shuffled[:cut], k, cap)
    table.merge(filled(shuffled[cut:], k, cap))
    assert same(table, filled(rows, k, cap))


@settings(max_examples=60)
@given(rows, rows, rows, st.integers(1, 4), caps)
def test_merging_is_associative_commutative_and_idempotent(a, b, c, k, cap):
    def merged(*tables):
        result = TopK(CHANNELS, k, cap)
        for table in tables:
            result.merge(table)
        return result

    one, two, three = (filled(rows, k, cap) for rows in (a, b, c))
    assert same(merged(merged(one, two), three), merged(one, merged(two, three)))
    assert same(merged(one, two), merged(two, one))
    assert same(merged(one, one), one)


@given(rows, st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0])), st.integers(1, 4), caps)
def test_what_candidates_leaves_out_cannot_enter(rows, values, k, cap):
    even = [(channel, value, 2 * image, y, x) for channel, value, image, y, x in rows]
    one, all_ = filled(even, k, cap), filled(even, k, cap)
    block = np.array(values, np.float32)[:, None].repeat(CHANNELS, 1)
    image = np.arange(len(values)) * 6 + 1
    for table, chosen in ((one, one.candidates(block, image)), (all_, np.ones_like(block))):
        row, channel = np.nonzero(chosen)
        groups = np.array([group_of(i) for i in image[row].tolist()], np.int64)
        at = np.zeros(len(row), np.int32)
        table.add(channel, block[row, channel], image[row], y=at, x=at, group=groups)
    assert same(one, all_)


def test_of_nine_hits_no_group_takes_more_than_its_cap():
    value = np.linspace(5, 1, 40, dtype=np.float32)
    image, zeros = np.arange(40), np.zeros(40, int)
    table = TopK(1, 9, per_group=2)
    table.add(zeros, value, image, y=zeros, x=zeros, group=image // 8)
    assert table.image[0].tolist() == [0, 1, 8, 9, 16, 17, 24, 25, 32]


def test_a_stored_table_comes_back():
    table = filled([(0, 1.0, 4, 1, 2), (2, 0.5, 3, 0, 0)], 3, 1)
    other = TopK(CHANNELS, 3, 1)
    other.load(table.state())
    assert same(table, other)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_without_a_place_in_the_order_is_refused(bad):
    with pytest.raises(ParameterError, match="NaN or infinite"):
        TopK(1, 2).add(np.array([0]), np.array([bad], np.float32), np.array([0]), y=[0], x=[0])


def test_tables_of_different_shapes_do_not_merge():
    with pytest.raises(ParameterError, match="cannot be merged"):
        TopK(2, 3).merge(TopK(2, 4))


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 10**12}, {"k": 3, "per_group": 0}])
def test_k_and_the_cap_are_at_least_one_and_k_is_at_most_ten_thousand(wrong):
    with pytest.raises(ParameterError, match=r"expected 1 (or more|to 10000)"):
        TopK(1, **wrong)
