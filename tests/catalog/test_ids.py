"""Ids: integers and strings of any kind, unique, found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusionops.catalog import Catalog
from fusionops.catalog.ids import IntegerIds, RangeIds, StringIds, as_ids, make_ids

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(st.one_of(INT64, st.integers(-5, 5)), unique=True), st.lists(INT64))
def test_integers_are_found_where_they_are(ids, others):
    index = make_ids("ids", as_ids("ids", ids))
    places = {id_: at for at, id_ in enumerate(ids)}
    queries = [*ids, *others]
    assert index.find(as_ids("ids", queries)).tolist() == [places.get(q, -1) for q in queries]
    assert index.take(np.arange(len(ids))).tolist() == ids


FAR = 2**62 + 2**61


@pytest.mark.parametrize("ids", [[FAR, -FAR], [-FAR, FAR], [2**63 - 1, -(2**63)], [FAR, -FAR, 7]])
def test_steps_that_int64_does_not_hold(ids):
    """A step down by more than 2^63 wraps to a step up."""
    index = make_ids("ids", as_ids("ids", ids))
    assert index.find(np.array(ids)).tolist() == list(range(len(ids)))
    catalog = Catalog.build(np.eye(1))
    catalog.add(np.ones((len(ids), 1)), ids)
    assert all(id_ in catalog for id_ in ids)
    with pytest.raises(ValueError, match="expected new ids"):
        catalog.add(np.ones((1, 1)), ids[1:2])


@given(st.lists(st.text(), unique=True, min_size=1), st.lists(st.text()))
def test_strings_are_found_where_they_are(ids, others):
    index = make_ids("ids", as_ids("ids", ids))
    places = {id_: at for at, id_ in enumerate(ids)}
    queries = [*ids, *others]
    found = index.find(np.array([*queries, ""], dtype=object)[:-1])
    assert found.tolist() == [places.get(q, -1) for q in queries]
    assert index.take(np.arange(len(ids))).tolist() == ids


@pytest.mark.parametrize(
    ("ids", "kind", "arrays"),
    [
        (range(5, 9), RangeIds, 0),
        (range(2**63 - 4, 2**63), RangeIds, 0),
        (range(9, 5, -1), IntegerIds, 3),
        (range(9, 9), RangeIds, 0),
        ([5, 7, 100], IntegerIds, 1),
        ([5, 3, 100], IntegerIds, 3),
        (np.array([1, 2], dtype=np.uint64), RangeIds, 0),
        (np.array(["a", "b"]), StringIds, 0),
    ],
)
def test_the_index_is_as_small_as_the_ids_allow(ids, kind, arrays):
    index = make_ids("ids", as_ids("ids", ids))
    assert type(index) is kind
    if kind is IntegerIds:
        assert sum(a is not None for a in (index.names, index.ascending, index.order)) == arrays


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([1, True], TypeError, "got bool, int"),
        ([1, "a"], TypeError, "got int, str"),
        ([b"a"], TypeError, "got bytes"),
        ([None], TypeError, "got NoneType"),
        ("abc", TypeError, "expected a sequence of ids, got str"),
        (np.array([True, False]), TypeError, "got dtype bool"),
        (np.array([1.0]), TypeError, "got dtype float64"),
        (np.array([[1]]), ValueError, "expected 1 dimension"),
        ([1 << 63], ValueError, "expected integers that int64 holds, got 9223372036854775808"),
        (np.array([1 << 63], dtype=np.uint64), ValueError, "expected integers below 2^63"),
        (range(2**63 - 4, 2**63 + 1), ValueError, "int64 holds, got 9223372036854775808"),
        ([3, 1, 3], ValueError, "expected unique ids, got 1 repeats, 3 among them"),
        (["x", "y", "x"], ValueError, "'x' among them"),
    ],
)
def test_other_ids_are_refused(ids, error, message):
    with pytest.raises(error) as caught:
        make_ids("ids", as_ids("ids", ids))
    assert message in str(caught.value)


@pytest.mark.parametrize("ids", [[np.int8(3), 5], [np.str_("a"), "b"]])
def test_numpy_scalars_are_ids(ids):
    catalog = Catalog.build(np.eye(2), ids)
    assert all(id_ in catalog for id_ in ids)
    assert type(catalog.ids.tolist()[0]) in (int, str)


def test_membership_of_what_cannot_be_an_id():
    catalog = Catalog.build(np.eye(2))
    assert 1 in catalog
    assert np.uint64(1) in catalog
    for other in (True, 1.0, None, "1", (1,), 1 << 70, -1, 2):
        assert other not in catalog


@pytest.mark.parametrize("ids", [[5, 9], [9, 5], [5, 6]])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_ids_are_not_the_memory_of_the_caller(ids, kind):
    buffer = kind(ids)
    built = Catalog.build(np.eye(2), buffer)
    added = Catalog.build(np.zeros((0, 2)))
    added.add(np.eye(2), buffer)
    buffer[:] = 100
    for catalog in (built, added):
        assert catalog.ids.tolist() == ids
        assert all(id_ in catalog for id_ in ids)
        assert catalog.search(np.eye(2), 1)[1].ravel().tolist() == ids
