"""Variants of a history against serving the shortened history for real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from explanation_support import served_without, shelf
from hypothesis import given, settings
from hypothesis import strategies as st
from recommender_support import fitted, shop

from fusionops.data import IdMap, Interactions
from fusionops.models import LinearFusion
from fusionops.models.explanation import Situation
from fusionops.models.explanation import situation as module
from fusionops.models.explanation.situation import NOT_LISTED
from fusionops.models.interface.requests import Request

BOTH = pytest.mark.parametrize("model", ["linear", "fusion"], indirect=True)


def random_subsets(situation: Situation, count: int, seed: int = 0) -> Any:
    """Variants among which are the whole history, none of it, and each item left out."""
    size = len(situation.history)
    random = np.random.default_rng(seed).random((count, size)) < 0.6
    return np.concatenate([random, np.ones((1, size), bool), ~np.eye(size, dtype=bool),
                           np.zeros((1, size), bool)])  # fmt: skip


def check_variants(situation: Situation, user: str, kept: Any, *, rel: float = 1e-5) -> None:
    model = situation.model
    ids = model.items.ids.ids
    codes = np.arange(len(ids))
    scores, ranks = situation.outcomes(codes, kept)
    k = situation.k
    best, listed = situation.lists(kept)
    assert scores.dtype == np.float64
    assert ranks.dtype == np.int64
    allowed = ids[situation.allowed].tolist()
    for row, variant in enumerate(kept):
        removed = ids[situation.history[~variant]].tolist()
        expected, expected_ranks = served_without(model, user, removed, allowed)
        nothing = not variant.any()
        assert np.isnan(scores[row]).all() == nothing
        if not nothing:
            size = max(map(abs, expected.values()))
            assert scores[row] == pytest.approx(list(expected.values()), rel=rel, abs=rel * size)
        found = dict(zip(ids.tolist(), ranks[row].tolist(), strict=True))
        assert {item: rank for item, rank in found.items() if rank != NOT_LISTED} == expected_ranks
        names = [ids[code] for code in listed[row, :k] if code >= 0]
        assert names == [item for item, rank in expected_ranks.items() if rank <= k]
        assert np.isneginf(best[row, :k][listed[row, :k] < 0]).all()


@BOTH
@pytest.mark.parametrize("user", ["u00", "u01", "u06"])
@pytest.mark.parametrize("width", [128, 2])
def test_variants_are_what_serving_a_shorter_history_says(model, user, width, monkeypatch):
    """In lists, and counted beyond them."""
    monkeypatch.setattr(module, "_WIDTH", width)
    situation = Situation.of(model, user, k=3, recency=None)
    check_variants(situation, user, random_subsets(situation, 4))


@BOTH
@pytest.mark.parametrize(
    "request_",
    [
        Request(False, None, None, None),
        Request(True, ["i01", "i02"], None, None),
        Request(True, {"u04": ["i01", "i02"]}, None, None),
        Request(True, None, ["i00", "i03", "i20", "i34", "i11"], None),
        Request(True, ["i03"], {"u04": ["i00", "i03", "i20", "i34"]}, None),
        Request(False, None, None, lambda row: 2 < row["price"] < 5),
        Request(True, None, {"u04": []}, None),
    ],
)
def test_limits_are_those_of_lists(model, request_, monkeypatch):
    monkeypatch.setattr(module, "_WIDTH", 2)
    situation = Situation.of(model, "u04", k=2, request=request_, recency=None)
    listed = model.recommend(
        ["u04"],
        36,
        exclude_seen=request_.exclude_seen,
        exclude=request_.exclude,
        candidates=request_.candidates,
        item_filter=request_.item_filter,
        recency=None,
    )
    assert set(listed["item"].to_pylist()) == set(model.items.ids.ids[situation.allowed])
    check_variants(situation, "u04", random_subsets(situation, 2))


class TestTies:
    """Vectors of a few whole numbers, whose scores are exact and often equal."""

    @pytest.fixture
    def tied(self, linear):
        rng = np.random.default_rng(4)
        vectors = rng.integers(-1, 2, linear.item_vectors.shape).astype(np.float32)
        vectors[5] = vectors[30] = vectors[11]
        vectors[8] = 0
        ones = np.ones(len(vectors), np.float32)
        with shelf(linear, vectors=vectors, item_scale=ones) as changed:
            yield changed

    @pytest.mark.parametrize("width", [128, 2, 1])
    @pytest.mark.parametrize("k", [1, 5, 50])
    def test_ranks_are_those_of_a_sort(self, tied, width, k, monkeypatch):
        monkeypatch.setattr(module, "_WIDTH", width)
        situation = Situation.of(
            tied, "u01", k=k, request=Request(True, ["i10"], None, None), recency=None
        )
        kept = random_subsets(situation, 8)[:-1]
        codes = np.arange(len(tied.items))
        scores, ranks = situation.outcomes(codes, kept)
        ties = 0
        for row in range(len(kept)):
            weights = situation.asked.pairs.toarray()[0].astype(np.float64)
            weights[situation.history[~kept[row]]] = 0
            expected = tied.item_vectors.astype(np.float64) @ (weights @ tied.item_vectors)
            np.testing.assert_array_equal(scores[row], expected)
            able = codes[situation.allowed]
            order = able[np.argsort(-expected[able], kind="stable")]
            ties += len(able) - len(np.unique(expected[able]))
            assert ranks[row, order].tolist() == list(range(1, len(able) + 1))
            assert (ranks[row, ~situation.allowed] == NOT_LISTED).all()
        assert ties > 20

    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def test_any_history(self, data):
        """Random shops, histories, limits and variants against a sort in float64."""
        draw = data.draw
        seed = draw(st.integers(0, 2**16))
        rng = np.random.default_rng(seed)
        n_items, n_rows = draw(st.integers(2, 9)), draw(st.integers(1, 12))
        rows = Interactions(
            rng.integers(0, 2, n_rows),
            rng.integers(0, n_items, n_rows),
            IdMap(["a", "b"]),
            IdMap(np.arange(n_items)),
            weight=rng.integers(0, 3, n_rows).astype(np.float32),
        )
        if not (rows.weight > 0).any():
            return
        model = LinearFusion(rank=2).fit(rows)
        vectors = rng.integers(-1, 2, (n_items, model.item_vectors.shape[1])).astype(np.float32)
        excluded = rng.permutation(n_items)[: draw(st.integers(0, 2))]
        request = Request(draw(st.booleans()), excluded.tolist(), None, None)
        with shelf(model, vectors=vectors, item_scale=np.ones(n_items, np.float32)):
            situation = Situation.of(model, "a", k=draw(st.integers(1, 4)), request=request)
            size = len(situation.history)
            kept = rng.random((draw(st.integers(0, 5)), size)) < 0.5
            scores, ranks = situation.outcomes(np.arange(n_items), kept)
            _, listed = situation.lists(kept)
        popularity = model._shelf.popularity
        assert len(listed) == len(kept)
        for row, variant in enumerate(kept):
            weights = situation.asked.pairs.toarray()[0].astype(np.float64)
            weights[situation.history[~variant]] = 0
            known = variant.any()
            expected = vectors.astype(np.float64) @ (weights @ vectors) if known else popularity
            able = np.flatnonzero(situation.allowed)
            order = able[np.argsort(-expected[able], kind="stable")]
            assert ranks[row, order].tolist() == list(range(1, len(able) + 1))
            found = listed[row][listed[row] >= 0]
            assert found.tolist() == order[: listed.shape[1]].tolist()
            if known:
                np.testing.assert_array_equal(scores[row], expected)


class TestHistories:
    def test_an_item_that_weighs_nothing_is_no_part(self, linear, fusion, interactions):
        """It was met, so it stays excluded, whatever is left out."""
        found = 0
        for user in (0, 2, 4, 6):
            rows = interactions.user == user
            met = np.unique(interactions.item[rows])
            weight = np.zeros(36)
            np.maximum.at(weight, interactions.item[rows], interactions.weight[rows])
            for model in (linear, fusion):
                situation = Situation.of(model, f"u{user:02d}")
                assert situation.history.tolist() == np.flatnonzero(weight).tolist()
                assert not situation.allowed[met].any()
            found += len(met) - np.count_nonzero(weight)
        assert found > 0

    def test_events_are_left_out_with_their_item(self):
        model = fitted(shop(events=True), touched=False)
        for user in ("u00", "u03"):
            situation = Situation.of(model, user, k=4, recency=None)
            check_variants(situation, user, random_subsets(situation, 4))

    @pytest.mark.parametrize("behaviour", ["attention", "gru", "transformer"])
    def test_sequences_close_up(self, interactions, behaviour):
        model = fitted(interactions, behaviour=behaviour)
        situation = Situation.of(model, "u05", k=4, recency=None)
        check_variants(situation, "u05", random_subsets(situation, 3), rel=1e-4)

    @BOTH
    def test_the_rest_keeps_its_recency(self, model):
        """Scores of what is left, with the weights that it had."""
        situation = Situation.of(model, "u03", recency="basket")
        size = len(situation.history)
        kept = np.ones((1, size), bool)
        kept[0, size // 2] = False
        asked = situation.variants(kept)
        before = dict(zip(situation.history, situation.asked.pairs.data, strict=True))
        after = dict(zip(asked.pairs.indices, asked.pairs.data, strict=True))
        assert len(after) == size - 1
        assert all(after[code] == before[code] for code in after)
        assert len(set(before.values())) == size
        assert not np.isin(situation.history[size // 2], asked.histories.items)
        profile, _ = model._profiles(asked)
        expected = model.item_vectors @ profile[0]
        found, _ = situation.outcomes(np.arange(36), kept, ranks=False)
        np.testing.assert_allclose(found[0], expected, atol=1e-5)

    def test_a_recency_that_fades_to_nothing(self, linear, fusion):
        """What weighs 0 for its age is no part of the history, and not left out."""
        from fusionops.models.interface.recency import Recency

        fast = Recency(scale=0.005, floor=0.0)
        for model in (linear, fusion):
            situation = Situation.of(model, "u01", recency=fast)
            assert len(situation.history) == 1
            scores, _ = situation.outcomes(np.array([0, 8]), np.array([[True], [False]]))
            assert np.isfinite(scores[0]).all()

    def test_what_was_known_at_a_moment(self, linear, interactions):
        times = interactions.time[interactions.user == 5]
        whole, before = (
            Situation.of(linear, "u05", at=at) for at in (None, np.sort(times)[len(times) // 2])
        )
        assert set(before.history) < set(whole.history)

    @BOTH
    def test_strangers_are_served_by_popularity(self, model):
        situation = Situation.of(model, "nobody", k=5)
        assert len(situation.history) == 0
        scores, ranks = situation.outcomes(np.arange(36), np.ones((1, 0), bool))
        assert np.isnan(scores).all()
        listed = model.recommend(["nobody"], 36)
        ids = model.items.ids.ids.tolist()
        codes = [ids.index(item) for item in listed["item"].to_pylist()]
        assert ranks[0, codes].tolist() == list(range(1, 37))
        assert situation.scores(3, np.ones((2, 0), bool)).tolist() == [0, 0]

    @BOTH
    @pytest.mark.parametrize("count", [0, 1, 7])
    def test_variants_go_in_parts(self, model, count, monkeypatch):
        """However many there are, and however long the history is."""
        situation = Situation.of(model, "u01", k=3)
        kept = random_subsets(situation, 7)[:count]
        codes = np.array([0, 35, 9])
        whole = (*situation.outcomes(codes, kept), *situation.lists(kept))
        assert [len(part) for part in whole] == [count] * 4
        monkeypatch.setattr(module, "_ROWS", len(situation.asked.histories.items) * 2)
        monkeypatch.setattr(module, "_ENTRIES", 40)
        parts = (*situation.outcomes(codes, kept), *situation.lists(kept))
        for one, other in zip(whole, parts, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


class TestSecondStage:
    @pytest.fixture(scope="class")
    def reranked(self, interactions):
        import torch

        model = fitted(interactions, rerank_candidates=8)
        torch.manual_seed(1)
        torch.nn.init.normal_(model.reranker.output.weight, std=5.0)
        return model

    @pytest.mark.parametrize("k", [3, 12])
    @pytest.mark.parametrize("user", ["u01", "u02"])
    def test_ranks_are_those_of_the_second_stage(self, reranked, user, k):
        """Beyond the pool those of the first."""
        situation = Situation.of(reranked, user, k=k, recency=None)
        ids, pool = reranked.items.ids.ids, max(k, 8)
        kept = random_subsets(situation, 3)[:-1]
        _, ranks = situation.outcomes(np.arange(36), kept)
        _, listed = situation.lists(kept)
        moved = 0
        for row, variant in enumerate(kept):
            removed = ids[situation.history[~variant]].tolist()
            allowed = ids[situation.allowed].tolist()
            scores, in_pool = served_without(reranked, user, removed, allowed, width=pool)
            assert [ids[code] for code in listed[row, :k]] == list(in_pool)[:k]
            first = sorted(allowed, key=lambda item: -scores[item])
            assert set(first[:pool]) == set(in_pool)
            moved += first[:pool] != list(in_pool)
            expected = in_pool | {item: place + 1 for place, item in enumerate(first)
                                  if item not in in_pool}  # fmt: skip
            found = dict(zip(ids.tolist(), ranks[row].tolist(), strict=True))
            assert {item: found[item] for item in allowed} == expected
        assert moved > 0

    def test_the_score_is_that_of_the_first(self, reranked):
        situation = Situation.of(reranked, "u01", recency=None)
        kept = np.ones((1, len(situation.history)), bool)
        scores, _ = situation.outcomes(np.arange(36), kept)
        pairs = [("u01", item) for item in reranked.items.ids.ids.tolist()]
        expected = reranked.score(pairs, recency=None)["score"].to_numpy()
        np.testing.assert_allclose(scores[0], expected, rtol=1e-5, atol=1e-6)


@BOTH
@pytest.mark.parametrize("kept", [np.ones((2, 3)), np.ones(4, bool), np.ones((1, 99), bool)])
def test_a_mask_of_another_shape_is_refused(model, kept):
    situation = Situation.of(model, "u01")
    for call in (situation.lists, lambda kept: situation.outcomes(np.array([0]), kept)):
        with pytest.raises(ValueError, match=r"kept: expected bool \[V, \d+\], got"):
            call(kept)
