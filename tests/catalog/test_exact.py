"""Lists in bfloat16 and int8 are those of float32, and those of fusion_topk, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fusionops
from fusionops.catalog import Catalog, searching

DTYPES = ["float32", "bfloat16", "int8"]
RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def near_ties():
    vectors = np.repeat(normal(40, 24), 100, axis=0)
    return vectors + np.float32(1e-6) * normal(*vectors.shape)


def huge_norms():
    vectors = normal(4000, 24)
    vectors[::7] *= np.float32(1e15)
    vectors[::11] *= np.float32(1e-15)
    return vectors


def one_outlier_dimension():
    vectors = normal(4000, 24)
    vectors[:, 3] *= 1e4
    return vectors


def subnormal():
    return normal(4000, 24) * np.float32(1e-40)


def not_finite():
    vectors = normal(4000, 24)
    vectors[5, 2], vectors[9, 0], vectors[11] = np.nan, np.inf, -np.inf
    return vectors


CASES = {
    "gaussian": lambda: normal(6000, 24),
    "near ties": near_ties,
    "huge norms": huge_norms,
    "constant": lambda: np.ones((4000, 24), dtype=np.float32),
    "zeros": lambda: np.zeros((4000, 24), dtype=np.float32),
    "one outlier dimension": one_outlier_dimension,
    "subnormal": subnormal,
    "not finite": not_finite,
    "few": lambda: normal(5, 24),
    "narrow": lambda: normal(4000, 1),
}


def assert_same(found, expected):
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0].view(np.int32), expected[0].view(np.int32))


@pytest.mark.parametrize("normalization", ["diagonal", "cosine", "none"])
@pytest.mark.parametrize("case", CASES)
def test_lists_are_those_of_the_operator(case, normalization):
    vectors = CASES[case]()
    users = normal(6, vectors.shape[1])
    users[4] = 0
    users[5] *= 1e-20
    exclude = (np.array([0, 0, 3, 3, 4, 4, 4]), np.array([0, 1, 2, 4]))
    expected = fusionops.fusion_topk(
        torch.from_numpy(users),
        torch.from_numpy(vectors),
        20,
        normalization=normalization,
        exclude=tuple(map(torch.from_numpy, exclude)),
    )
    for dtype in DTYPES:
        catalog = Catalog.build(vectors, normalization=normalization, dtype=dtype)
        found = catalog.search(users, 20, exclude=exclude)
        assert_same(found, [part.numpy() for part in expected])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_lists_in_segments_with_the_matrix_power(dtype):
    """After additions, removals and updates, too: float32 and reduced go through the same."""
    vectors, users = normal(3000, 24), normal(6, 24)
    pair = []
    for kind in ("float32", dtype):
        catalog = Catalog.build(vectors[:2000], normalization="matrix", dtype=kind)
        catalog.add(vectors[2000:2400], np.arange(2000, 2400))
        catalog.remove(np.arange(0, 2000, 3))
        catalog.update([4, 2001], vectors[2998:])
        pair.append(catalog.search(users, 20, allowed=np.arange(len(catalog)) % 5 > 0))
    assert_same(pair[1], pair[0])


def test_a_user_that_is_not_finite_is_scanned():
    vectors, users = normal(4000, 24), normal(3, 24)
    users[0, 0], users[1, 0] = np.inf, np.nan
    expected = Catalog.build(vectors).search(users, 5)
    assert (expected[1][1] == -1).all()
    assert_same(Catalog.build(vectors, dtype="int8").search(users, 5), expected)


@pytest.mark.parametrize("normalization", ["cosine", "none"])
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_users_whose_items_tie_are_scanned(monkeypatch, dtype, normalization):
    """Some users of a search are, others are not; each keeps its own exclusions and scale."""
    vectors, users = np.sign(normal(4000, 24)), normal(5, 24)  # of one norm
    vectors[:, 0] = 1  # all that these users look at
    users[[1, 3]] = 0
    users[[1, 3], 0] = 1, 2
    users[[0, 2, 4], 0] = 0
    exclude = [list(range(at, 4000, 2 + at)) for at in range(5)]
    allowed = np.arange(4000) % 7 > 0
    scanned = []
    topk = searching._native.fusion_topk

    def spy(user, *arguments, **keywords):
        if "candidates" not in keywords:
            scanned.append(len(user))
        return topk(user, *arguments, **keywords)

    keywords = {"exclude": exclude, "allowed": allowed}
    expected = Catalog.build(vectors, normalization=normalization).search(users, 20, **keywords)
    catalog = Catalog.build(vectors, normalization=normalization, dtype=dtype)
    monkeypatch.setattr(searching._native, "fusion_topk", spy)
    assert_same(catalog.search(users, 20, **keywords), expected)
    assert scanned == [2]
