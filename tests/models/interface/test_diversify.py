"""Maximal marginal relevance against a plain loop."""

import numpy as np

from fusionops.models.interface.diversify import pool_size, rerank


def plain(scores, items, vectors, k, diversify):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pool = [(score, item) for score, item in zip(scores, items, strict=True) if item >= 0]
    low, high = pool[-1][0], pool[0][0]
    chosen = []
    while pool and len(chosen) < k:
        value = [
            (1 - diversify) * (score - low) / (high - low)
            - diversify * max((unit[item] @ unit[c] for c in chosen), default=0.0)
            for score, item in pool
        ]
        chosen.append(pool.pop(int(np.argmax(value)))[1])
    return chosen


def test_equals_the_plain_loop():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 8)).astype(np.float32)
    scores = -np.sort(-rng.random((7, 20)).astype(np.float32), axis=1)
    items = np.stack([rng.permutation(50)[:20] for _ in range(7)])
    for diversify in (0.2, 0.7, 1.0):
        found_scores, found = rerank(scores, items, vectors, 6, diversify)
        for user in range(7):
            expected = plain(scores[user], items[user], vectors, 6, diversify)
            assert found[user].tolist() == expected
            where = [items[user].tolist().index(item) for item in expected]
            np.testing.assert_array_equal(found_scores[user], scores[user][where])


def test_padding_stays_behind():
    vectors = np.eye(3, dtype=np.float32)
    scores = np.array([[2.0, 1.0, -np.inf, -np.inf], [-np.inf] * 4], np.float32)
    items = np.array([[2, 0, -1, -1], [-1] * 4])
    found_scores, found = rerank(scores, items, vectors, 3, 0.5)
    assert found.tolist() == [[2, 0, -1], [-1, -1, -1]]
    assert found_scores[0].tolist() == [2.0, 1.0, -np.inf]


def test_no_users():
    found_scores, found = rerank(
        np.empty((0, 5), np.float32),
        np.empty((0, 5), np.int64),
        np.eye(5, dtype=np.float32),
        2,
        0.5,
    )
    assert found.shape == found_scores.shape == (0, 2)


def test_pool_is_bounded_by_the_catalogue_and_holds_the_list():
    assert pool_size(10, 1000) == 50
    assert pool_size(100, 1000) == 500
    assert pool_size(10, 30) == 30
    assert pool_size(100, 30) == 100
