"""Metrics by hand, by definition, and against an independent library."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranx import Qrels, Run
from ranx import evaluate as ranx_evaluate
from scipy import sparse

from fusionops.data import IdMap, Interactions
from fusionops.data.splits import make_split
from fusionops.evaluation.metrics import PER_USER, evaluate, gini, intra_list_diversity


def make(test_pairs, *, n_users, n_items, train_pairs=((0, 0),), candidates=None):
    def interactions(pairs):
        user, item = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
        return Interactions(user, item, IdMap(np.arange(n_users)), IdMap(np.arange(n_items)))

    train = interactions(train_pairs)
    return make_split(train, interactions(test_pairs), candidates=candidates, name="made")


def test_by_hand():
    split = make([(0, 1), (0, 2), (0, 3), (2, 5)], n_users=3, n_items=6)
    found = evaluate(np.array([[1, 4, 3, 0], [0, 5, -1, -1]]), split, 4, model="M")
    assert found.users.tolist() == [0, 2]
    d = 1 / np.log2(np.arange(2, 6))
    expected = {
        "recall": [2 / 3, 1.0],
        "precision": [2 / 4, 1 / 4],
        "ndcg": [(d[0] + d[2]) / d[:3].sum(), d[1] / d[0]],
        "map": [(1 + 2 / 3) / 3, 1 / 2],
        "mrr": [1.0, 1 / 2],
        "hit_rate": [1.0, 1.0],
    }
    assert set(expected) == set(PER_USER) == set(found.per_user)
    for name, values in expected.items():
        np.testing.assert_allclose(found.per_user[name], values, rtol=1e-12, err_msg=name)
        assert found[name] == pytest.approx(np.mean(values))
    assert found.coverage == 5 / 6
    assert found.summary()["recall@4"] == pytest.approx(5 / 6)
    assert (found.model, found.protocol, found.k) == ("M", "made", 4)


@st.composite
def cases(draw):
    n_users, n_items = draw(st.integers(1, 5)), draw(st.integers(2, 12))
    k = draw(st.integers(1, n_items))
    pair = st.tuples(st.integers(0, n_users - 1), st.integers(0, n_items - 1))
    test_pairs = draw(st.sets(pair, min_size=1))
    users = sorted({user for user, _ in test_pairs})
    lists = [draw(st.permutations(range(n_items)))[:k] for _ in users]
    return test_pairs, n_users, n_items, k, np.array(lists)


@given(cases())
@settings(max_examples=40, deadline=None)
def test_against_ranx(case):
    test_pairs, n_users, n_items, k, lists = case
    split = make(test_pairs, n_users=n_users, n_items=n_items)
    qrels: dict[str, dict[str, int]] = {}
    for user, item in test_pairs:
        qrels.setdefault(f"u{user:02d}", {})[f"i{item}"] = 1
    run = {
        f"u{user:02d}": {f"i{item}": float(k - rank) for rank, item in enumerate(row)}
        for user, row in zip(split.users, lists, strict=True)
    }
    names = {metric: f"{metric}@{k}" for metric in PER_USER}
    reference = Run(run)
    ranx_evaluate(Qrels(qrels), reference, list(names.values()), make_comparable=True)
    found = evaluate(lists, split, k)
    for metric, name in names.items():
        per_user = reference.scores[name]
        expected = [per_user[f"u{user:02d}"] for user in split.users]
        np.testing.assert_allclose(found.per_user[metric], expected, rtol=1e-6, err_msg=metric)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_all_lie_in_0_to_1_and_a_better_swap_never_hurts(case):
    test_pairs, n_users, n_items, k, lists = case
    split = make(test_pairs, n_users=n_users, n_items=n_items)
    found = evaluate(lists, split, k)
    for values in found.per_user.values():
        assert (values >= 0).all()
        assert (values <= 1 + 1e-12).all()
    relevant = {(user, item) for user, item in test_pairs}
    sorted_lists = np.array(
        [
            sorted(row, key=lambda item, user=user: (user, item) not in relevant)
            for user, row in zip(split.users.tolist(), lists.tolist(), strict=True)
        ]
    )
    better = evaluate(sorted_lists, split, k)
    for metric in PER_USER:
        assert (better.per_user[metric] >= found.per_user[metric] - 1e-12).all()


def test_a_perfect_list_is_worth_1_also_beyond_k():
    split = make([(0, item) for item in range(5)], n_users=1, n_items=9)
    found = evaluate(np.arange(3)[None], split, 3)
    assert found["ndcg"] == pytest.approx(1.0)
    assert found["precision"] == 1.0
    assert found["recall"] == pytest.approx(3 / 5)


def test_coverage_and_gini_count_candidates_only():
    split = make([(0, 7)], n_users=1, n_items=10, candidates=np.array([6, 7, 8, 9]))
    found = evaluate(np.array([[7, 6]]), split, 2)
    assert found.coverage == 0.5
    assert found.gini == pytest.approx(gini(np.array([1, 1, 0, 0])))


def test_gini():
    assert gini(np.array([3, 3, 3])) == pytest.approx(0.0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(3 / 4)
    counts = np.array([1, 5, 2, 9])
    by_definition = np.abs(counts[:, None] - counts).sum() / (2 * 4 * counts.sum())
    assert gini(counts) == pytest.approx(by_definition)
    assert np.isnan(gini(np.array([0, 0])))


def test_novelty_is_the_self_information_of_what_is_listed():
    train = [(0, 0), (1, 0), (2, 0), (2, 1)]
    split = make([(0, 3)], n_users=3, n_items=4, train_pairs=train)
    found = evaluate(np.array([[0, 1, 2]]), split, 3)
    expected = -np.log2(np.array([4, 2, 1]) / 4).mean()
    assert found.novelty == pytest.approx(expected)


def test_intra_list_diversity_against_the_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 3))
    vectors[2] = 0.0
    lists = np.array([[0, 1, 2, 3], [4, 5, -1, -1], [6, -1, -1, -1]])
    length = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    cosine = (vectors / length) @ (vectors / length).T
    first = np.mean([1 - cosine[a, b] for a in range(4) for b in range(a)])
    expected = (first + 1 - cosine[4, 5]) / 2
    assert intra_list_diversity(lists, vectors) == pytest.approx(expected)
    assert intra_list_diversity(lists, sparse.csr_array(vectors)) == pytest.approx(expected)
    split = make([(0, 0), (1, 0), (2, 0)], n_users=3, n_items=7)
    assert evaluate(lists, split, 4, vectors=vectors)["intra_list_diversity"] == pytest.approx(
        expected
    )
    assert evaluate(lists, split, 4).intra_list_diversity is None


def test_errors():
    split = make([(0, 1), (1, 2)], n_users=2, n_items=4, candidates=np.array([1, 2]))
    good = np.array([[1, 2], [2, 1]])
    assert evaluate(good, split, 2)["hit_rate"] == 1.0
    with pytest.raises(TypeError, match="ranked must hold integer item codes, got float64"):
        evaluate(good.astype(float), split, 2)
    with pytest.raises(ValueError, match=r"shape \[2, at least 3\], got \[2, 2\]"):
        evaluate(good, split, 3)
    with pytest.raises(ValueError, match=r"shape \[2, at least 2\], got \[1, 2\]"):
        evaluate(good[:1], split, 2)
    with pytest.raises(ValueError, match=r"codes in 0\.\.3, or -1, got 1\.\.9"):
        evaluate(np.array([[1, 2], [2, 9]]), split, 2)
    with pytest.raises(ValueError, match="candidates only, got 1 others, for example 3"):
        evaluate(np.array([[1, 3], [2, 1]]), split, 2)
    with pytest.raises(ValueError, match="but 1 lists repeat one, for example row 1"):
        evaluate(np.array([[1, 2], [2, 2]]), split, 2)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        evaluate(good, split, 0)
    with pytest.raises(KeyError, match="there is no metric 'auc'"):
        evaluate(good, split, 2)["auc"]
