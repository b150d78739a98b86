"""The figures of LinearFusion on Online Retail, with one set of parameters and text alone.

The bounds are the project's promises. Parameters and recencies were chosen on validation parts.
"""

import numpy as np
import pytest

from fusionops.data import online_retail
from fusionops.evaluation import EASE, CarriedEASE, evaluate, paired_difference, protocols
from fusionops.models import LinearFusion
from fusionops.models.interface.recency import NEXT_VISIT, Recency

DATES = protocols.ONLINE_RETAIL_DATES


@pytest.fixture(scope="module")
def retail():
    return online_retail.load()


def figures(model, split, **question):
    _, ranked = model.rank(split.users, 20, candidates=split.candidates, **question)
    return evaluate(ranked, split, 20, model=model.name)


def fitted(split, items, baseline):
    ours = LinearFusion().fit(split.train, items)
    return ours, figures(baseline.fit(split.train, items), split)


def ndcg_difference(ours, baseline):
    return paired_difference(ours.per_user["ndcg"], baseline.per_user["ndcg"])


@pytest.fixture(scope="module")
def warm(retail):
    interactions, items = retail
    split = protocols.warm(interactions)
    return split, *fitted(split, items, EASE())


def test_warm(warm):
    split, model, ease = warm
    ours = figures(model, split, recency="basket")
    assert ours["recall"] >= 0.175
    assert ours["ndcg"] >= 0.149
    assert ours.coverage >= ease.coverage
    assert ndcg_difference(ours, ease).low > 0


def test_warm_without_recency_is_above_ease(warm):
    split, model, ease = warm
    ours = figures(model, split, recency=None)
    assert ours["recall"] >= ease["recall"]
    assert ndcg_difference(ours, ease).low > 0


def test_warm_by_days_is_above_without_recency(warm):
    split, model, _ = warm
    ours = figures(model, split, recency=Recency(15.0, 0.1, "days"))
    assert ndcg_difference(ours, figures(model, split, recency=None)).low > 0


def test_the_serving_rank_loses_nothing(warm, retail):
    """The 1,024 leading directions rank as all 3,145 do."""
    split, model, _ = warm
    full = figures(LinearFusion(rank=4096).fit(split.train, retail[1]), split, recency=None)
    ours = figures(model, split, recency=None)
    assert abs(ours["ndcg"] - full["ndcg"]) < 0.0005
    assert abs(ours["recall"] - full["recall"]) < 0.0005


def test_without_items_by_items_the_figures_stay(warm, retail):
    split, model, _ = warm
    large = LinearFusion(dense_items=0).fit(split.train, retail[1])
    ours = figures(large, split, recency="basket")
    assert abs(ours["ndcg"] - figures(model, split, recency="basket")["ndcg"]) < 0.003


def test_nothing_of_the_test_part_is_known(warm):
    """The rows that recency is taken from are training pairs, up to the user's last one."""
    split, model, _ = warm
    histories = model._state.histories
    user = np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
    known = set((user * len(split.train.items) + histories.items).tolist())
    assert known.isdisjoint((split.test.user * len(split.test.items) + split.test.item).tolist())
    training = split.train.first_pairs()
    assert len(known) == len(training)
    last = np.zeros(len(histories), dtype="datetime64[ns]")
    np.maximum.at(last, training.user, training.time)
    assert (histories.times <= last[user]).all()


def test_next_visit(retail):
    interactions, items = retail
    split = protocols.next_visit(interactions)
    model, ease = fitted(split, items, EASE())
    ours = figures(model, split, recency=NEXT_VISIT)
    assert ours["recall"] >= 0.133
    assert ours["ndcg"] >= 0.112
    assert ours.coverage >= ease.coverage


@pytest.mark.parametrize("date", DATES)
def test_cold(retail, date):
    interactions, items = retail
    split = protocols.cold(interactions, date)
    model, carried = fitted(split, items, CarriedEASE())
    ours = figures(model, split, recency=None)
    floor = (0.280, 0.208) if date == "2011-09-01" else (carried["recall"], carried["ndcg"])
    assert ours["recall"] >= floor[0]
    assert ours["ndcg"] >= floor[1]
    assert ours.coverage >= carried.coverage


@pytest.mark.parametrize("date", DATES)
def test_one_list(retail, date):
    interactions, items = retail
    split = protocols.one_list(interactions, date)
    model, ease = fitted(split, items, EASE())
    ours = figures(model, split, recency=None)
    for metric in ("recall", "ndcg"):
        assert paired_difference(ours.per_user[metric], ease.per_user[metric]).low > 0
    assert ours.coverage >= ease.coverage
