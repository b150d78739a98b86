"""Catalog against fusion_topk, which has its own truth."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

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


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_exclude_as_a_pair_of_arrays_or_as_lists(kind):
    """A tuple is a pair if its first array can be offsets; a list never is."""
    catalog = Catalog.build(np.arange(12.0, 0.0, -1.0)[:, None], normalization="none")
    users = np.ones((2, 1))

    def best(exclude, users=users):
        return catalog.search(users, 1, exclude=exclude)[1].ravel().tolist()

    as_pair = (kind([0, 2, 3]), kind([0, 1, 0]))
    assert best(as_pair) == [2, 1]
    assert best(list(as_pair)) == [1, 2]
    assert best((kind([0, 1]), kind([0]))) == [2, 1]  # too few for offsets: two users' lists
    assert best((kind([2, 0, 1]), kind([0]))) == [3, 1]  # does not start with 0
    assert best((kind([0, 1, 1]), kind([0]))) == [1, 0]
    assert best(([0, 1, 2], [0, 1])) == [3, 2]  # no arrays
    assert best((kind([0, 1]), kind([0])), users[:1]) == [1]
    strings = Catalog.build(np.arange(3.0, 0.0, -1.0)[:, None], ["a", "b", "c"])
    pair = (kind([0, 0, 1]), np.array(["a"]))
    assert strings.search(users, 1, exclude=pair)[1].ravel().tolist() == ["a", "b"]
    pair = (np.array(["a"]), np.array(["b"]))
    assert strings.search(users, 1, exclude=pair)[1].ravel().tolist() == ["b", "a"]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_k_beyond_the_items_costs_the_lists_alone(vectors, users, dtype):
    catalog = Catalog.build(vectors, dtype=dtype)
    catalog.add(vectors[:50], np.arange(600, 650))
    expected = catalog.search(users, 551)
    k = 400_000
    tracemalloc.start()
    found = catalog.search(users, k)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(users) * k * 12 + (4 << 20)
    for whole, part in zip(found, expected, strict=True):
        np.testing.assert_array_equal(whole[:, :551], part)
    assert (found[1][:, 551:] == -1).all()
    assert np.isneginf(found[0][:, 551:]).all()


def test_a_catalogue_is_not_pickled():
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="use save and load"):
            copied(Catalog.build(np.eye(3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Catalog.build(np.eye(3)).search(np.eye(3), 2**62), ValueError, "k: expected lis"),
        (
            lambda: Catalog.build(np.eye(3)).search(
                np.eye(3), 1, exclude=(np.array([0, 0, 0, 1]), np.array(0))
            ),
            ValueError,
            "exclude: expected 1 dimension, got shape []",
        ),
        (
            lambda: Catalog.build(np.eye(3)).search(np.eye(3), 1, exclude=([0, 0, 0, 1], [0])),
            ValueError,
            "got 2; a pair (offsets, ids) must be a tuple",
        ),
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
