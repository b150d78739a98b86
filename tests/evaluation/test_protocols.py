"""The protocols on Online Retail: the counts of the published figures, and no way to a test row."""

import numpy as np
import pytest

from fusionops.data import splits
from fusionops.evaluation import protocols


def test_warm_counts(purchases):
    split = protocols.warm(purchases)
    assert len(split.train.users) == len(split.users) == 4_074
    assert len(split.train.items) == 3_145
    assert len(split.train.first_pairs()) == 209_975
    assert len(split.test) == 54_535
    assert splits.same_session_share(split) == pytest.approx(0.57, abs=0.005)


def test_next_visit_counts(purchases):
    split = protocols.next_visit(purchases)
    assert len(split.users) == 1_569
    assert len(split.test) == 23_430
    assert splits.same_session_share(split) == 0.0


@pytest.mark.parametrize(
    ("date", "candidates"), [("2011-07-01", 280), ("2011-09-01", 205), ("2011-10-01", 111)]
)
def test_cold_counts(purchases, date, candidates):
    split = protocols.cold(purchases, date)
    assert len(split.candidates) == candidates
    assert not np.isin(split.candidates, split.train.item).any()
    assert np.isin(split.test.item, split.candidates).all()
    assert np.bincount(split.train.first_pairs().user).min() >= 5


def keys(interactions):
    return interactions.user * len(interactions.items) + interactions.item


def every_split(purchases):
    date = "2011-09-01"
    warm, visit = protocols.warm(purchases), protocols.next_visit(purchases)
    cold, one_list = protocols.cold(purchases, date), protocols.one_list(purchases, date)
    yield from (warm, visit, cold, one_list)
    yield protocols.warm_validation(warm)
    yield protocols.next_visit_validation(visit)
    yield protocols.cold_validation(cold, "2011-07-01")
    yield protocols.one_list_validation(one_list, "2011-07-01")
    yield protocols.held_out_validation(cold)


def test_no_protocol_shows_a_test_row_in_train(purchases):
    names = []
    for split in every_split(purchases):
        assert len(split.test), split.name
        assert not np.isin(keys(split.train), keys(split.test)).any(), split.name
        names.append(split.name)
    assert len(set(names)) == len(names)


def test_validation_sees_nothing_of_the_test_part(purchases):
    warm = protocols.warm(purchases)
    inner = protocols.warm_validation(warm)
    assert inner.train.items is warm.train.items
    assert np.isin(keys(inner.test), keys(warm.train)).all()
    cold = protocols.cold(purchases, "2011-09-01")
    earlier = protocols.cold_validation(cold, "2011-07-01")
    assert earlier.train.time.max() < np.datetime64("2011-07-01")
    assert earlier.test.time.min() >= np.datetime64("2011-07-01")
    assert earlier.test.time.max() < np.datetime64("2011-09-01")


def test_one_list_ranks_warm_and_cold_items_together(purchases):
    split = protocols.one_list(purchases, "2011-09-01")
    cold = protocols.cold(purchases, "2011-09-01")
    assert split.candidates is None
    assert len(split.train) == len(cold.train)
    of_cold_items = np.isin(split.test.item, cold.candidates)
    assert set(keys(split.test)[of_cold_items]) == set(keys(cold.test))


def test_the_warm_protocol_says_how_much_is_basket_completion(purchases):
    (note,) = protocols.warm(purchases).notes
    assert note.startswith("57% of the test pairs")
