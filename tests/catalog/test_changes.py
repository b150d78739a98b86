"""What changes cost and keep: segments, ties, filters, the matrix power."""

from __future__ import annotations

import numpy as np
import pytest

from fusionops.catalog import Catalog


def segments(catalog):
    return [part.segment for part in catalog._snapshot.parts]


def test_single_additions_keep_few_segments():
    catalog = Catalog.build(np.zeros((0, 4)), dtype="int8")
    packed = 0
    for at in range(1000):
        known = segments(catalog)
        catalog.add(np.full((1, 4), at), [at])
        packed += sum(len(segment) for segment in segments(catalog) if segment not in known)
    assert len(segments(catalog)) <= 11
    assert packed <= 1000 * 11
    assert catalog.ids.tolist() == list(range(1000))


def test_a_file_stays_where_it_is(tmp_path, vectors):
    Catalog.build(vectors, dtype="int8").save(tmp_path / "x")
    catalog = Catalog.load(tmp_path / "x")
    base = segments(catalog)[0]
    catalog.add(np.ones((600, 17)), np.arange(1000, 1600))
    catalog.remove(np.arange(450))
    assert segments(catalog)[0] is base
    assert len(segments(catalog)) == 2


def test_a_mostly_dead_segment_is_compacted(vectors):
    catalog = Catalog.build(vectors, dtype="int8")
    catalog.remove(np.arange(100, 501))
    assert [len(segment) for segment in segments(catalog)] == [100]


def test_an_updated_item_keeps_its_place_among_ties(tmp_path):
    catalog = Catalog.build(np.ones((5, 3)), ["a", "b", "c", "d", "e"])
    catalog.update(["d", "b"], np.full((2, 3), 2.0))
    catalog.update(["b"], np.ones((1, 3)))
    catalog.remove(["c"])
    catalog.add(np.ones((1, 3)), ["c"])
    catalog.update(["d"], np.ones((1, 3)))
    expected = [["a", "b", "d", "e", "c"]]
    assert catalog.search(np.ones((1, 3)), 5)[1].tolist() == expected
    catalog.save(tmp_path / "x")
    assert Catalog.load(tmp_path / "x").search(np.ones((1, 3)), 5)[1].tolist() == expected


@pytest.mark.parametrize(
    "which",
    [[3, 500, 7], np.isin(np.arange(501), [3, 7, 500]), lambda id_: id_ in (3, 7, 500)],
)
def test_a_filter_shares_memory_and_no_changes(vectors, users, which):
    catalog = Catalog.build(vectors)
    some = catalog.filter(which)
    assert some.ids.tolist() == [3, 7, 500]
    assert segments(some)[0] is segments(catalog)[0]
    expected = catalog.search(users, 3, allowed=[3, 7, 500])
    for found, wanted in zip(some.search(users, 3), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    some.remove([3])
    catalog.remove([7])
    assert (len(some), len(catalog), 3 in catalog, 7 in some) == (2, 500, True, True)


def test_refit_is_the_map_of_the_items_as_they_are(vectors, users):
    catalog = Catalog.build(vectors[:200], normalization="matrix")
    before = catalog.search(users, 1, allowed=[5])[0]
    catalog.add(vectors[200:], np.arange(200, 501))
    catalog.update([0, 1], vectors[[1, 0]])
    catalog.remove([400, 2])
    now = vectors.copy()
    now[[0, 1]] = vectors[[1, 0]]
    kept = np.delete(np.arange(501), [400, 2])
    fresh = Catalog.build(now[kept], kept, normalization="matrix")
    np.testing.assert_array_equal(catalog.search(users, 1, allowed=[5])[0], before)
    for refitted in (catalog, catalog.filter(kept)):
        refitted.refit()
        scores, ids = refitted.search(users, 9)
        np.testing.assert_array_equal(ids, fresh.search(users, 9)[1])
        np.testing.assert_allclose(scores, fresh.search(users, 9)[0], rtol=1e-5)


def test_refit_after_a_vector_that_is_not_finite(vectors, users):
    catalog = Catalog.build(vectors, normalization="matrix")
    expected = catalog.search(users, 5)
    catalog.add(np.full((1, 17), np.nan), [999])
    with pytest.raises(ValueError, match="expected finite values"):
        catalog.refit()
    np.testing.assert_array_equal(catalog.search(users, 5)[1], expected[1])  # and stays usable
    catalog.remove([999])
    catalog.refit()
    np.testing.assert_array_equal(catalog.search(users, 5)[1], expected[1])


def catalog():
    return Catalog.build(np.eye(3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.add(np.eye(3), [7, 8]), ValueError, "ids: expected 3, one a vector, got 2"),
        (lambda c: c.add(np.eye(2), [7, 8]), ValueError, "vectors: expected rows of width 3"),
        (lambda c: c.add(np.eye(3)[:1], ["a"]), TypeError, "ids: expected int as the other ids"),
        (lambda c: c.add(np.eye(3)[:2], [7, 7]), ValueError, "ids: expected unique ids"),
        (lambda c: c.add(np.eye(3)[:1], [2]), ValueError, "ids: expected new ids, got 2"),
        (lambda c: c.update([1, 1], np.eye(3)[:2]), ValueError, "ids: expected unique ids"),
        (lambda c: c.update(["a"], np.eye(3)[:1]), KeyError, "ids: id 'a' is not in the cat"),
        (lambda c: c.remove([1, 1]), ValueError, "ids: expected unique ids"),
        (lambda c: c.remove([5]), KeyError, "ids: id 5 is not in the catalogue"),
        (lambda c: c.vectors([5]), KeyError, "ids: id 5 is not in the catalogue"),
        (lambda c: c.filter(np.ones(2, bool)), ValueError, "which: expected a mask of shape [3]"),
        (lambda c: c.search(np.ones(3), 1), ValueError, "user: expected 2 dimensions, got shape"),
        (lambda c: c.search(np.eye(3), True), TypeError, "k: expected an int, got bool"),
        (
            lambda c: c.search(np.eye(3), 1, exclude=(np.array([0, 1, 2]), np.array([0, 1]))),
            ValueError,
            "exclude: expected integer offsets of shape [4], got int64 [3]",
        ),
        (
            lambda c: c.search(np.eye(3), 1, exclude=(np.array([0, 2, 1, 1]), np.array([0]))),
            ValueError,
            "exclude: expected offsets that rise from 0 to the 1 ids",
        ),
        (lambda c: c.search(np.eye(3), 1, exclude="abc"), TypeError, "exclude: expected a list"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(call, error, message):
    one = catalog()
    with pytest.raises(error) as caught:
        call(one)
    assert message in str(caught.value)
    assert one.ids.tolist() == [0, 1, 2]


def test_a_filter_keeps_no_mask_of_the_caller(vectors):
    mask = np.arange(501) < 3
    some = Catalog.build(vectors).filter(mask)
    mask[:] = True
    assert some.ids.tolist() == [0, 1, 2]
    assert set(some.search(vectors[:1], 9)[1][0].tolist()) == {-1, 0, 1, 2}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("change", ["remove", "update"])
def test_refit_forgets_what_was_large(vectors, users, dtype, change):
    """In a sum with 1e16 in it the others are rounded away, and do not come back by subtracting."""
    expected = Catalog.build(vectors, normalization="matrix").search(users, 9)
    large = vectors.copy()
    large[500] = 1e8
    catalog = Catalog.build(large, normalization="matrix", dtype=dtype)
    if change == "remove":
        catalog.remove([500])
        catalog.add(vectors[500:], [500])
    else:
        catalog.update([500], vectors[500:])
    catalog.refit()
    found = catalog.search(users, 9)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)


def test_a_failed_change_under_matrix_leaves_the_state(vectors, users):
    catalog = Catalog.build(vectors, normalization="matrix", dtype="int8")
    catalog.add(vectors[:3], [901, 902, 903])
    before, state = catalog.search(users, 9), catalog._snapshot
    for change in (
        lambda: catalog.add(vectors[:2], [990, 5]),
        lambda: catalog.add(vectors[:2, :4], [990, 991]),
        lambda: catalog.update([5, 990], vectors[:2]),
        lambda: catalog.remove([901, 990]),
    ):
        with pytest.raises((ValueError, KeyError)):
            change()
        assert catalog._snapshot is state
    catalog.update([901], np.full((1, 17), np.inf))
    infinite = catalog._snapshot
    with pytest.raises(ValueError, match="expected finite values"):
        catalog.refit()
    assert catalog._snapshot is infinite
    catalog.update([901], vectors[:1])
    for found, expected in zip(catalog.search(users, 9), before, strict=True):
        np.testing.assert_array_equal(found, expected)
