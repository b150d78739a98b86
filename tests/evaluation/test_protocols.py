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
