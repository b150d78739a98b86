"""The counts of the shipped data, step by step."""

import numpy as np
import pytest

from fusionops.data import Report, online_retail


@pytest.fixture(scope="module")
def loaded():
    report = Report()
    return (*online_retail.load(report=report), report)


def test_counts(loaded):
    interactions, items, _ = loaded
    assert len(interactions) == 396_337
    assert len(interactions.first_pairs()) == 266_221
    assert len(interactions.users) == 4_334
    assert len(interactions.items) == len(items) == 3_659


def test_every_cleaning_step_is_reported_and_accounts_for_every_row(loaded):
    interactions, _, report = loaded
    left_out = [p for p in report.problems if p.severity == "dropped"]
    assert [p.count for p in left_out] == [135_080, 8_905, 40, 1_547]
    assert 541_909 - sum(p.count for p in left_out) == len(interactions)
    for problem in report.problems:
        assert f"{problem.count:,} rows" in problem.sentence
        assert "for example" in problem.sentence


def test_items_have_the_most_frequent_text_and_the_median_price(loaded):
    interactions, items, _ = loaded
    assert items.ids == interactions.items
    code = items.ids.encode(["85123A"])[0]
    assert items.text["description"][code] == "WHITE HANGING HEART T-LIGHT HOLDER"
    assert all(text for text in items.text["description"])
    assert items.numeric["price"][code] == pytest.approx(2.95, abs=1e-6)
    assert (items.numeric["price"] > 0).all()


def test_one_purchase_by_hand(loaded):
    interactions, _, _ = loaded
    assert interactions.users.decode(interactions.user[:1]) == [17850]
    assert interactions.items.decode(interactions.item[:1]) == ["85123A"]
    assert interactions.time[0] == np.datetime64("2010-12-01T08:26")
    assert interactions.session[0] == interactions.session[1]
