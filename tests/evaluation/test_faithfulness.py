from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionops.evaluation import paired_difference
from fusionops.evaluation.faithfulness import Curves, compare, measure, order_of, random_orders


def additive(effects, constant=0.0):
    return lambda kept: constant + kept @ np.asarray(effects, dtype=np.float64)


def areas(score, order):
    found = measure(score, {"one": np.asarray(order)})["one"]
    return found.deletion_area, found.insertion_area


def test_curves_and_areas_by_hand():
    found = measure(
        additive([1, 5, 2]), {"best": np.array([1, 2, 0]), "worst": np.array([0, 2, 1])}
    )
    np.testing.assert_allclose(found["best"].deletion, [1, 3 / 8, 1 / 8, 0])
    np.testing.assert_allclose(found["best"].insertion, [0, 5 / 8, 7 / 8, 1])
    np.testing.assert_allclose(found["worst"].deletion, [1, 7 / 8, 5 / 8, 0])
    assert found["best"].deletion_area == pytest.approx((0.5 + 3 / 8 + 1 / 8) / 3)
    assert found["best"].insertion_area == pytest.approx((5 / 8 + 7 / 8 + 0.5) / 3)


def test_interactions_are_scored_and_not_assumed_away():
    def both(kept):  # either feature alone does nothing
        return kept.all(axis=1) * 2.0

    found = measure(both, {"one": np.array([0, 1])})["one"]
    assert found.deletion.tolist() == [1, 0, 0]
    assert found.insertion.tolist() == [0, 0, 1]


@pytest.mark.parametrize("constant", [0.0, 3.0, -20.0])  # the last makes the whole score negative
def test_the_true_order_of_an_additive_score_is_the_best_of_all(constant):
    effects = np.array([2.0, -1.5, 4.0, 0.5, 0.0])
    score = additive(effects, constant)
    ours = areas(score, order_of(effects))
    all_areas = np.array([areas(score, order) for order in permutations(range(5))])
    assert ours[0] == pytest.approx(all_areas[:, 0].min())
    assert ours[1] == pytest.approx(all_areas[:, 1].max())
    assert ours[0] < all_areas[:, 0].max() - 0.1
    # The mean over all orders is the straight line from all to nothing.
    whole = score(np.ones((1, 5), bool))[0]
    np.testing.assert_allclose(all_areas.mean(axis=0), (whole + constant) / (2 * abs(whole)))


def test_rows_of_orders_are_averaged_and_asked_in_one_call():
    calls = []

    def score(kept):
        calls.append(kept.shape)
        return kept @ np.array([3.0, 1.0, 0.0, 2.0]) + kept[:, 0] * kept[:, 3]

    orders = random_orders(4, 7, seed=3)
    found = measure(score, {"ours": np.array([0, 3, 1, 2]), "random": orders})
    assert calls == [(2 * 8 * 5, 4)]
    alone = [measure(score, {"one": order})["one"] for order in orders]
    np.testing.assert_allclose(
        found["random"].deletion, np.mean([one.deletion for one in alone], axis=0)
    )
    np.testing.assert_allclose(
        found["random"].insertion, np.mean([one.insertion for one in alone], axis=0)
    )


def test_random_orders_are_orders_of_their_seed():
    orders = random_orders(30, 50, seed=(1, 4))
    assert orders.dtype == np.int64
    assert (np.sort(orders, axis=1) == np.arange(30)).all()
    assert len(np.unique(orders, axis=0)) == 50
    assert (orders == random_orders(30, 50, seed=(1, 4))).all()
    assert (orders != random_orders(30, 50, seed=(1, 5))).any()
    first = np.bincount(random_orders(3, 3000)[:, 0])
    np.testing.assert_allclose(first / 3000, 1 / 3, atol=0.04)


def test_equal_effects_keep_their_places():
    assert order_of([1, 3, 1, 3, -2]).tolist() == [1, 3, 0, 2, 4]
    assert order_of([]).tolist() == []


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=8), st.integers(0, 1000))
def test_equal_effects_make_all_orders_alike(effects, seed):
    score = additive(np.full(len(effects), 0.5))
    found = measure(score, {"a": order_of(effects), "b": random_orders(len(effects), 3, seed=seed)})
    assert found["a"].deletion_area == pytest.approx(0.5)
    assert found["b"].insertion_area == pytest.approx(0.5)


def test_one_feature_leaves_nothing_to_order():
    found = measure(additive([2.0], 2.0), {"one": np.array([0]), "random": random_orders(1, 4)})
    for one in found.values():
        assert (one.deletion.tolist(), one.insertion.tolist()) == ([1.0, 0.5], [0.5, 1.0])
        assert one.deletion_area == one.insertion_area == 0.75


def test_a_score_of_zero_has_no_share():
    found = measure(additive([1.0, -1.0]), {"one": np.array([0, 1])})["one"]
    assert np.isnan(found.deletion).all()
    assert np.isnan(found.insertion_area)


def question(deletion, insertion):
    """The curves of a method "ours" with these areas, and of "random" with areas 0.5."""
    return {
        "ours": Curves(np.full(3, deletion), np.full(3, insertion)),
        "random": Curves(np.full(3, 0.5), np.full(3, 0.5)),
    }


def test_gains_are_paired_over_users():
    deletion = [0.1, 0.3, 0.2, 0.4]
    insertion = [0.9, 0.7, 0.6, 0.4]
    asked = [question(*pair) for pair in zip(deletion, insertion, strict=True)]
    found = compare(["b", "a", "b", "c"], asked)["ours"]
    of_user = np.array([[0.3, 0.7], [0.15, 0.75], [0.4, 0.4]])  # a, b, c
    assert (found.deletion, found.insertion) == pytest.approx(tuple(of_user.mean(axis=0)))
    half = np.full(3, 0.5)
    assert found.deletion_gain == paired_difference(half, of_user[:, 0])
    assert found.insertion_gain == paired_difference(of_user[:, 1], half)
    assert (found.questions, found.users) == (4, 3)
    assert compare(["b", "a", "b", "c"], asked, "ours")["random"].deletion_gain.mean < 0
    none = compare(["b", "a", "b", "c"], asked)["random"].insertion_gain
    assert (none.mean, none.low, none.high) == (0, 0, 0)


def test_questions_without_a_score_do_not_count():
    asked = [question(0.1, 0.9), question(np.nan, np.nan), question(0.3, 0.7)]
    found = compare([1, 1, 2], asked)["ours"]
    assert (found.questions, found.users) == (2, 2)
    assert found.deletion == pytest.approx(0.2)
    with pytest.raises(ValueError, match="two users or more, got 1"):
        compare([1, 1], asked[:2])


def test_a_faithful_order_is_told_from_a_random_one():
    rng = np.random.default_rng(0)
    users, good, bad = [], [], []
    for user in range(40):
        effects = rng.exponential(1.0, 12)
        orders = {"random": random_orders(12, 10, seed=user)}
        score = additive(effects)
        users.append(user)
        good.append(measure(score, {**orders, "one": order_of(effects)}))
        bad.append(measure(score, {**orders, "one": rng.permutation(12)}))
    found = compare(users, good)["one"]
    assert found.deletion_gain.low > 0.1
    assert found.insertion_gain.low > 0.1
    chance = compare(users, bad)["one"]
    assert chance.deletion_gain.low < 0 < chance.deletion_gain.high


@pytest.mark.parametrize(
    ("order", "shown"), [([0, 0], r"\[0, 0\]"), ([1, 2], r"\[1, 2\]"), ([], r"\[\]")]
)
def test_an_order_names_every_place_once(order, shown):
    with pytest.raises(ValueError, match=r"orders\['x'\]: expected each of the places.*" + shown):
        measure(additive([1.0, 2.0]), {"x": np.array(order)})


def test_errors():
    pair = {"x": np.array([0, 1])}
    with pytest.raises(
        ValueError, match=r"score: expected 6 finite numbers, got the shape \[6, 2\]"
    ):
        measure(lambda kept: kept * 1.0, pair)
    with pytest.raises(ValueError, match=r"got the shape \[6\] with NaN or Inf"):
        measure(lambda kept: np.where(kept[:, 0], np.nan, 1.0), pair)
    with pytest.raises(ValueError, match=r"of the same features, got \[2, 3\]"):
        measure(additive([1.0, 2.0]), {**pair, "y": np.arange(3)})
    with pytest.raises(ValueError, match=r"effects: expected numbers of shape \[H\]"):
        order_of([1.0, np.nan])
    with pytest.raises(ValueError, match="draws: expected at least 1, got 0"):
        random_orders(3, 0)
    asked = [question(0.1, 0.9), question(0.2, 0.8)]
    with pytest.raises(ValueError, match=r"one for each of 2 questions, got the shape \[1\]"):
        compare([1], asked)
    with pytest.raises(ValueError, match=r"against: expected one of \['ours', 'random'\]"):
        compare([1, 2], asked, "chance")
    with pytest.raises(ValueError, match=r"expected the methods \['ours', 'random'\] in each"):
        compare([1, 2], [asked[0], {"random": asked[1]["random"]}])
