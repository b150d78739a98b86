"""The smallest removal against all subsets of small histories."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from explanation_support import served_without, shelf
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionops.models.explanation import Situation
from fusionops.models.explanation.removal import Bound, smallest_removal

BOTH = pytest.mark.parametrize("model", ["linear", "fusion"], indirect=True)


def drops(situation: Situation, item: int, places) -> bool:
    kept = np.ones((1, len(situation.history)), bool)
    kept[0, list(places)] = False
    _, listed = situation.lists(kept)
    return item not in listed[0, : situation.k]


def sets_that_do(situation: Situation, item: int, largest: int) -> list[tuple[int, ...]]:
    """All sets of the smallest size that drop an item, by brute force."""
    for size in range(1, min(largest, len(situation.history)) + 1):
        every = itertools.combinations(range(len(situation.history)), size)
        found = [places for places in every if drops(situation, item, places)]
        if found:
            return found
    return []


def effects_of(situation: Situation, item: int) -> np.ndarray:
    codes = np.array([item])
    whole, _ = situation.outcomes(codes, np.ones((1, len(situation.history)), bool))
    without, _ = situation.outcomes(codes, ~np.eye(len(situation.history), dtype=bool))
    return whole[0, 0] - np.nan_to_num(without[:, 0])


@BOTH
@pytest.mark.parametrize("user", ["u00", "u03", "u05"])
@pytest.mark.parametrize("k", [2, 9])
def test_it_is_the_smallest_of_all_subsets(model, user, k):
    situation = Situation.of(model, user, k=k, recency=None)
    ids = model.items.ids.ids
    _, listed = situation.lists(np.ones((1, len(situation.history)), bool))
    for item in listed[0, [0, k - 1]].tolist():
        effects = effects_of(situation, item)
        found = smallest_removal(situation, item, effects, Bound(5, 5000))
        expected = sets_that_do(situation, item, 5)
        assert found.found == bool(expected)
        assert found.smallest
        assert found.largest == 5
        if not expected:
            assert (found.items, found.labels, found.rank) == ((), (), None)
            continue
        names = [tuple(ids[situation.history[list(places)]].tolist()) for places in expected]
        assert found.items in names
        # Among those that do, the one whose items mean the most.
        best = max(effects[list(places)].sum() for places in expected)
        chosen = expected[names.index(found.items)]
        assert effects[list(chosen)].sum() == pytest.approx(best)
        allowed = ids[situation.allowed].tolist()
        _, ranks = served_without(model, user, found.items, allowed)
        assert found.rank == ranks[ids[item]] > k
        assert found.labels == tuple(
            model.items.label(ids.tolist().index(one)) for one in found.items
        )


@pytest.fixture
def pairs_needed(linear):
    """One wide step in the scores: the item stays while two of eight items that carry it are left.

    The profile is a sum, so i20 scores the number of i01..i08 that are kept, and i21 always 1.5.
    """
    vectors = np.zeros_like(linear.item_vectors)
    vectors[1:9, 0] = 1
    vectors[20, 0] = 1
    vectors[9, 1], vectors[21, 1] = 1, 1.5
    with shelf(linear, vectors=vectors, item_scale=np.ones(36, np.float32)) as model:
        yield model


def carried(model, count: int, k: int = 1, more: Sequence[str] = ()) -> Situation:
    history = [f"i{code:02d}" for code in range(1, count + 1)]
    asked = model._asked(np.array([-1]), histories_of(model, [*history, "i09", *more]), None, None)
    situation = Situation(model, asked, np.ones(36, bool), k)
    situation.allowed[:20] = False
    return situation


def histories_of(model, items):
    from fusionops.models.interface.histories import Histories

    return Histories.from_sequences([model.items.ids.encode(items)])


class TestBound:
    def test_sets_of_the_size_that_is_needed(self, pairs_needed):
        situation = carried(pairs_needed, 5)  # 5 - 4 < 1.5
        found = smallest_removal(situation, 20, effects_of(situation, 20), Bound(5, 2000))
        assert found.smallest
        assert set(found.items) < {f"i{code:02d}" for code in range(1, 6)}
        assert (len(found.items), found.rank) == (4, 2)
        assert found.tried == 6 + 15 + 20 + 15

    def test_a_bound_on_the_size_that_is_too_small(self, pairs_needed):
        situation = carried(pairs_needed, 5)
        found = smallest_removal(situation, 20, effects_of(situation, 20), Bound(3, 2000))
        assert not found.found
        assert found.smallest  # no set of up to three does it: all were tried
        assert found.tried == 6 + 15 + 20

    @pytest.mark.parametrize("budget", [1, 10, 40, 100])
    def test_the_budget_holds(self, pairs_needed, budget):
        situation = carried(pairs_needed, 8)
        found = smallest_removal(situation, 20, effects_of(situation, 20), Bound(8, budget))
        assert not found.smallest
        # Single items in any case; and to free a set from what it can spare, a few more.
        spared = len(found.items) ** 2
        assert found.tried <= max(budget, 9) + spared

    def test_a_search_by_the_most_promising(self, pairs_needed):
        """Size 7 of 9 is found by extending, and has nothing that can be spared."""
        situation = carried(pairs_needed, 8)
        found = smallest_removal(situation, 20, effects_of(situation, 20), Bound(8, 100))
        assert found.found
        assert not found.smallest
        places = np.flatnonzero(
            np.isin(pairs_needed.items.ids.ids[situation.history], list(found.items))
        )
        assert drops(situation, 20, places)
        for spared in range(len(places)):
            assert not drops(situation, 20, np.delete(places, spared))

    def test_what_comes_after_all_smaller_sets_is_the_smallest(self, pairs_needed):
        """The size itself need not be tried as a whole."""
        situation = carried(pairs_needed, 4)  # three of four, beside 10 pairs and 5 single items
        found = smallest_removal(situation, 20, effects_of(situation, 20), Bound(3, 20))
        assert found.smallest
        assert len(found.items) == 3
        assert found.tried == 20

    def test_what_can_be_spared_is(self, pairs_needed):
        """One pair and one triple are tried; i10, which a wrong effect put in, is taken out."""
        situation = carried(pairs_needed, 3, more=["i10"])
        effects = np.array([0.0, 0.0, 0.0, 0.0, 9.0])
        found = smallest_removal(situation, 20, effects, Bound(4, 8))
        assert found.items == ("i01", "i02")
        assert not found.smallest
        assert found.tried == 5 + 1 + 1 + 3 + 2

    def test_a_list_that_holds_everything_loses_nothing(self, pairs_needed):
        for k in (16, 40):
            situation = carried(pairs_needed, 3, k=k)
            found = smallest_removal(situation, 20, effects_of(situation, 20), Bound(4, 99))
            assert not found.found
            assert found.smallest
            assert found.tried == 15

    def test_a_history_of_one(self, linear):
        for item in ("i04", "i33"):
            one = linear.explain_for(["i00"], item, k=36)
            assert not one.removal.found
            assert one.removal.tried == 1
        listed = linear.recommend_for([["i00"]], 3)["item"].to_pylist()
        one = linear.explain_for(["i00"], listed[0], k=1)
        popular = linear.recommend(["nobody"], 36, exclude=["i00"])["item"].to_pylist()
        # With nothing left the list is one of what is popular.
        assert one.removal.found == (popular[0] != listed[0])
        if one.removal.found:
            assert one.removal.items == ("i00",)
            assert one.removal.rank == popular.index(listed[0]) + 1

    @pytest.mark.parametrize("name", ["largest_removal", "budget"])
    @pytest.mark.parametrize("value", [0, -1, True, 2.0, "3", None])
    def test_values_that_are_none(self, linear, name, value):
        kind = TypeError if type(value) is not int else ValueError
        with pytest.raises(kind, match=f"^{name}: expected"):
            linear.explain("u00", "i20", **{name: value})

    def test_numbers_of_numpy_are_numbers(self, linear):
        assert Bound(np.int64(3), np.int32(4)).largest_removal == 3


def test_an_item_outside_the_list_has_none(linear):
    listed = linear.recommend(["u01"], 36)["item"].to_pylist()
    assert linear.explain("u01", listed[2], k=3).removal is not None
    assert linear.explain("u01", listed[3], k=3).removal is None
    assert linear.explain("u01", "i01", k=3).removal is None or "i01" in listed
    assert linear.explain("nobody", listed[0]).removal is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), budget=st.integers(1, 30), largest=st.integers(1, 5))
def test_any_small_shop(linear, seed, budget, largest):
    """What is said of the set is so, whatever the budget was."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 3, linear.item_vectors.shape).astype(np.float32)
    with shelf(linear, vectors=vectors, item_scale=np.ones(36, np.float32)) as model:
        codes = rng.permutation(36)[: rng.integers(1, 6)]
        asked = model._asked(
            np.array([-1]), histories_of(model, model.items.ids.ids[codes].tolist()), None, None
        )
        situation = Situation(model, asked, rng.random(36) < 0.5, int(rng.integers(1, 5)))
        _, listed = situation.lists(np.ones((1, len(codes)), bool))
        item = int(listed[0, 0])
        if item < 0:
            return
        found = smallest_removal(situation, item, rng.random(len(codes)), Bound(largest, budget))
        expected = sets_that_do(situation, item, largest)
        if found.smallest:
            assert len(found.items) == (len(expected[0]) if expected else 0)
        places = np.searchsorted(situation.history, model.items.ids.encode(list(found.items) or
                                                                          ["i00"]))  # fmt: skip
        if found.found:
            assert drops(situation, item, places)
            assert len(expected[0]) <= len(found.items) <= largest
            assert all(
                not drops(situation, item, np.delete(places, one))
                for one in range(len(places) if len(places) > 1 else 0)
            )
