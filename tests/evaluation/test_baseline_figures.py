"""The baselines reproduce the published table on Online Retail within .003."""

import pytest
from minilm import description_vectors

from fusionops.evaluation import (
    EASE,
    CarriedEASE,
    ItemKNN,
    Popularity,
    Random,
    SummedCarriedEASE,
    evaluate,
    protocols,
)

WARM = {Popularity: (0.053, 0.043), ItemKNN: (0.141, 0.114), EASE: (0.161, 0.130)}
NEXT_VISIT = {Popularity: (0.047, 0.037), ItemKNN: (0.112, 0.096), EASE: (0.133, 0.113)}
COLD = {
    "2011-07-01": {Random: (0.076, 0.056), CarriedEASE: (0.229, 0.192)},
    "2011-09-01": {Random: (0.099, 0.062), CarriedEASE: (0.273, 0.208)},
    "2011-10-01": {Random: (0.172, 0.090), CarriedEASE: (0.394, 0.272)},
}
ONE_LIST = {
    "2011-07-01": {EASE: (0.082, 0.150)},
    "2011-09-01": {EASE: (0.076, 0.118)},
    "2011-10-01": {EASE: (0.083, 0.107)},
}
SUMMED = {"2011-07-01": (0.240, 0.207), "2011-09-01": (0.284, 0.216), "2011-10-01": (0.417, 0.271)}
COVERAGE = {
    ("warm", "Popularity"): 0.04,
    ("warm", "ItemKNN"): 0.75,
    ("warm", "EASE"): 0.56,
    ("next visit", "Popularity"): 0.04,
    ("next visit", "ItemKNN"): 0.49,
    ("next visit", "EASE"): 0.43,
    ("one list 2011-07-01", "EASE"): 0.38,
    ("one list 2011-09-01", "EASE"): 0.41,
    ("one list 2011-10-01", "EASE"): 0.43,
}


def check(split, items, published):
    for model_class, (recall, ndcg) in published.items():
        model = model_class().fit(split.train, items)
        _, ranked = model.rank(split.users, 20, candidates=split.candidates)
        found = evaluate(ranked, split, 20, model=model.name)
        assert found["recall"] == pytest.approx(recall, abs=0.003), model.name
        assert found["ndcg"] == pytest.approx(ndcg, abs=0.003), model.name
        coverage = COVERAGE.get((split.name, model.name))
        if coverage is not None:
            assert found["coverage"] == pytest.approx(coverage, abs=0.006), model.name


def test_warm(online):
    purchases, items = online
    check(protocols.warm(purchases), items, WARM)


def test_next_visit(online):
    purchases, items = online
    check(protocols.next_visit(purchases), items, NEXT_VISIT)


@pytest.mark.parametrize("date", protocols.ONLINE_RETAIL_DATES)
def test_cold(online, date):
    purchases, items = online
    check(protocols.cold(purchases, date), items, COLD[date])


@pytest.mark.parametrize("date", protocols.ONLINE_RETAIL_DATES)
def test_one_list(online, date):
    purchases, items = online
    check(protocols.one_list(purchases, date), items, ONE_LIST[date])


@pytest.mark.pretrained
def test_cold_with_sentence_vectors(online):
    purchases, items = online
    features = {"text": description_vectors(items)}
    for date, (recall, ndcg) in SUMMED.items():
        split = protocols.cold(purchases, date)
        model = SummedCarriedEASE().fit(split.train, items, features=features)
        _, ranked = model.rank(split.users, 20, candidates=split.candidates)
        found = evaluate(ranked, split, 20, model=model.name)
        assert found["recall"] == pytest.approx(recall, abs=0.003)
        assert found["ndcg"] == pytest.approx(ndcg, abs=0.003)


def test_the_draw_of_random_is_within_its_own_noise(online):
    # The chance that a random list of 20 of C candidates holds a given test item is 20 / C.
    split = protocols.cold(online[0], "2011-09-01")
    _, ranked = Random(seed=7).fit(split.train).rank(split.users, 20, candidates=split.candidates)
    recall = evaluate(ranked, split).per_user["recall"]
    assert abs(recall.mean() - 20 / 205) < 4 * recall.std() / len(recall) ** 0.5
