import numpy as np
import pytest

from fusionops.data import EVENT_WEIGHTS, IdMap, Interactions, Report

TABLE = {
    "user": ["v", "u", "u", "v", "u"],
    "item": [20, 10, 30, 20, 10],
    "time": ["2020-01-02", "2020-01-03", "2020-01-01", "2020-01-02", "2020-01-01"],
    "kind": ["view", "purchase", "save", "view", "rating"],
    "value": [1.0, 1.0, 2.0, 1.0, 4.0],
    "visit": ["b", "a", "c", "b", "c"],
}


@pytest.fixture
def rows():
    return Interactions.from_table(
        TABLE,
        event="kind",
        weight="value",
        session="visit",
        event_weights=EVENT_WEIGHTS,
        report=Report(),
    )


def test_columns(rows):
    assert rows.users == IdMap(["u", "v"])
    assert rows.items == IdMap([10, 20, 30])
    assert rows.user.tolist() == [1, 0, 0, 1, 0]
    assert rows.item.tolist() == [1, 0, 2, 1, 0]
    assert rows.time.dtype == np.dtype("datetime64[ns]")
    assert rows.time[0] == np.datetime64("2020-01-02")
    assert rows.event.tolist() == TABLE["kind"]
    assert rows.session[0] == rows.session[3] != rows.session[1]
    assert rows.session[2] == rows.session[4]


def test_event_weights_multiply_the_weight_column(rows):
    assert rows.weight.dtype == np.float32
    np.testing.assert_allclose(rows.weight, [0.2, 1.0, 0.5 * 2, 0.2, 1.0 * 4])
    plain = Interactions.from_table(TABLE, report=Report())
    np.testing.assert_array_equal(plain.weight, np.ones(5))


def test_ordered_is_stable_by_user_time_and_row(rows):
    ordered = rows.ordered()
    assert ordered.user.tolist() == [0, 0, 0, 1, 1]
    assert ordered.item.tolist() == [2, 0, 0, 1, 1]
    assert ordered.event.tolist() == ["save", "rating", "purchase", "view", "view"]


def test_first_pairs_are_the_earliest_rows(rows):
    pairs = rows.first_pairs()
    assert pairs.item.tolist() == [2, 0, 1]
    assert pairs.event.tolist() == ["save", "rating", "view"]


def test_matrix_is_binary(rows):
    matrix = rows.matrix()
    assert matrix.shape == (2, 3)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), [[1, 0, 1], [0, 1, 0]])


def test_select_by_mask_and_index(rows):
    assert rows.select(rows.user == 1).item.tolist() == [1, 1]
    chosen = rows.select([4, 0])
    assert chosen.event.tolist() == ["rating", "view"]
    assert chosen.users is rows.users
    assert len(rows.select(np.zeros(5, dtype=bool))) == 0


def test_restrict_renumbers(rows):
    only = rows.restrict(users=[0])
    assert only.users == IdMap(["u"])
    assert only.items == rows.items
    reordered = rows.restrict(items=[2, 0])
    assert reordered.items == IdMap([30, 10])
    assert reordered.items.decode(reordered.item).tolist() == [10, 30, 10]
    compact = rows.select(rows.user == 1).restrict()
    assert (compact.users, compact.items) == (IdMap(["v"]), IdMap([20]))


def test_a_table_without_time():
    rows = Interactions.from_table({"user": [2, 1], "item": [5, 6]}, time=None)
    assert rows.time is None
    assert rows.ordered().user.tolist() == [0, 1]


def test_errors():
    ids = IdMap([1, 2])
    good = np.array([0, 1])
    with pytest.raises(ValueError, match="item must have the length of user, 2, got 1"):
        Interactions(good, good[:1], ids, ids)
    with pytest.raises(ValueError, match=r"user must hold codes in 0\.\.1, got 0\.\.5"):
        Interactions(good * 5, good, ids, ids)
    with pytest.raises(TypeError, match="item must be int64 codes, got int32"):
        Interactions(good, good.astype(np.int32), ids, ids)
