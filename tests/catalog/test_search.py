"""Catalog against fusion_topk, which has its own truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fusionops
from fusionops.catalog import Catalog


@pytest.mark.parametrize("normalization", ["diagonal", "matrix", "cosine", "none"])
def test_lists_agree_with_the_operator(vectors, users, normalization):
    scores, ids = Catalog.build(vectors, normalization=normalization).search(users, 10)
    expected = fusionops.fusion_topk(
        torch.from_numpy(users).double(),
        torch.from_numpy(vectors).double(),
        10,
        normalization=normalization,
    )
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(ids, expected[1].numpy())
    np.testing.assert_allclose(scores, expected[0].numpy(), rtol=2e-5, atol=2e-6)


def test_strided_and_double_input_give_the_same_lists(vectors, users):
    want = Catalog.build(vectors).search(users, 5)
    got = Catalog.build(np.asfortranarray(vectors)).search(users.astype(np.float64), 5)
    np.testing.assert_array_equal(want[1], got[1])


def test_a_torch_tensor_is_taken(vectors, users):
    want = Catalog.build(vectors).search(users, 5)
    got = Catalog.build(torch.from_numpy(vectors)).search(torch.from_numpy(users), 5)
    np.testing.assert_array_equal(want[1], got[1])


def test_exclude_and_allowed_are_in_ids(vectors, users):
    ids = [f"item-{i}" for i in range(len(vectors))]
    catalog = Catalog.build(vectors, ids)
    _, best = catalog.search(users, 3)
    _, rest = catalog.search(users, 3, exclude=[list(row[:1]) for row in best])
    np.testing.assert_array_equal(rest[:, :2], best[:, 1:])
    scores, only = catalog.search(users, 3, allowed=ids[:2])
    assert set(only[:, :2].ravel()) == set(ids[:2])
    assert only[:, 2].tolist() == [None] * len(users)
    assert np.isneginf(scores[:, 2]).all()


def test_integer_ids_pad_with_minus_one(users, vectors):
    _, ids = Catalog.build(vectors[:2], [70, 50]).search(users, 3)
    assert set(ids[:, :2].ravel()) == {50, 70}
    assert (ids[:, 2] == -1).all()


def test_ties_follow_insertion_order():
    _, ids = Catalog.build(np.ones((100, 3)), list(range(100, 0, -1))).search(np.ones((1, 3)), 4)
    assert ids.tolist() == [[100, 99, 98, 97]]


def test_an_empty_catalogue_pads():
    scores, ids = Catalog.build(np.zeros((0, 3))).search(np.ones((2, 3)), 2)
    assert ids.tolist() == [[-1, -1]] * 2
    assert np.isneginf(scores).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Catalog.build([1.0, 2.0]), ValueError, "vectors: expected 2 dimensions"),
        (lambda: Catalog.build([["a"]]), TypeError, "vectors: expected numbers"),
        (lambda: Catalog.build(np.eye(3), [1, 2]), ValueError, "ids: expected 3, one a vector"),
        (lambda: Catalog.build(np.eye(3), [1, 2, 2]), ValueError, "ids: expected unique ids"),
        (lambda: Catalog.build(np.eye(3), [1.5, 2, 3]), TypeError, "ids: expected integers alone"),
        (lambda: Catalog.build(np.eye(3), normalization="l2"), ValueError, "normalization: expec"),
        (lambda: Catalog.build(np.eye(3), ridge=-1), ValueError, "ridge: expected a finite"),
        (lambda: Catalog.build(np.eye(3)).search(np.eye(2), 1), ValueError, "user: expected rows"),
        (lambda: Catalog.build(np.eye(3)).search(np.eye(3), 0), ValueError, "k: expected at least"),
        (lambda: Catalog.build(np.eye(3)).search(np.eye(3), 1.0), TypeError, "k: expected an int"),
        (
            lambda: Catalog.build(np.eye(3)).search(np.eye(3), 1, exclude=[[0]]),
            ValueError,
            "exclude: expected one list for each of 3 users, got 1",
        ),
        (
            lambda: Catalog.build(np.eye(3)).search(np.eye(3), 1, allowed=[7]),
            KeyError,
            "allowed: id 7 is not in the catalogue",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
