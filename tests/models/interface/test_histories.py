"""Ragged histories: pairs, ages, moments."""

import numpy as np
import pytest

from fusionops.data import IdMap, Interactions
from fusionops.models.interface.histories import Histories
from fusionops.models.interface.recency import Recency

DAY = np.timedelta64(1, "D")


@pytest.fixture
def histories():
    """User 0 has items 2, 1, 2 (again), 3 on days 0, 1, 9, 10; user 1 nothing; user 2 item 1."""
    start = np.datetime64("2024-03-01", "ns")
    rows = Interactions(
        user=np.array([2, 0, 0, 0, 0]),
        item=np.array([1, 3, 2, 1, 2]),
        users=IdMap(["a", "b", "c"]),
        items=IdMap(["w", "x", "y", "z"]),
        time=start + np.array([4, 10, 0, 1, 9]) * DAY,
        weight=np.array([1.0, 1.0, 0.2, 1.0, 0.5], np.float32),
    )
    return Histories.from_interactions(rows)


def test_rows_are_by_user_and_time(histories):
    assert histories.items.tolist() == [2, 1, 2, 3, 1]
    assert histories.offsets.tolist() == [0, 4, 4, 5]


def test_a_pair_counts_once_with_its_largest_weight(histories):
    expected = [[0, 1, 0.5, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    np.testing.assert_array_equal(histories.pairs(4).toarray(), np.float32(expected))


def test_age_in_items_counts_distinct_later_items(histories):
    recency = Recency(scale=1.0, floor=0.0)
    expected = np.exp([-2.0, -1.0, 0.0]) * [1.0, 0.5, 1.0]  # items 1, 2, 3: 2 came again after 1
    np.testing.assert_allclose(histories.pairs(4, recency).toarray()[0, 1:], expected, rtol=1e-6)


def test_age_in_days_is_that_of_the_last_event(histories):
    recency = Recency(scale=5.0, floor=0.0, unit="days")
    expected = np.exp(np.array([-9.0, -1.0, 0.0]) / 5.0) * [1.0, 0.5, 1.0]
    np.testing.assert_allclose(histories.pairs(4, recency).toarray()[0, 1:], expected, rtol=1e-6)


def test_at_is_the_moment_of_the_question(histories):
    moment = np.datetime64("2024-03-05", "ns")
    then = histories.until(moment)
    assert then.items.tolist() == [2, 1, 1]
    weights = then.pairs(4, Recency(5.0, 0.0, "days"), moment).toarray()[0]
    np.testing.assert_allclose(weights[1:3], np.exp([-3 / 5, -4 / 5]) * [1.0, 0.2], rtol=1e-6)


def test_of_selects_and_repeats_users(histories):
    chosen = histories.of(np.array([2, -1, 0, 2]))
    assert np.diff(chosen.offsets).tolist() == [1, 0, 4, 1]
    np.testing.assert_array_equal(
        chosen.pairs(4).toarray(),
        np.vstack([histories.pairs(4).toarray()[[2, 1, 0, 2]]]),
    )


def test_sequences_have_an_order_and_no_times():
    histories = Histories.from_sequences([np.array([0, 1]), np.array([], np.int64)])
    assert histories.ordered
    assert len(histories) == 2
    with pytest.raises(ValueError, match="expected histories with times for the unit 'days'"):
        histories.pairs(2, Recency(5.0, unit="days"))
    with pytest.raises(ValueError, match="at: expected histories with times"):
        histories.until(np.datetime64("2024-01-01", "ns"))
