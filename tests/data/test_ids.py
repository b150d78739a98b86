import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionops.data import IdMap


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), unique=True))
def test_strings_come_back(ids):
    ids = [f"x{value}" for value in ids]  # NumPy strips what no id ends with
    assert IdMap(ids).decode(IdMap(ids).encode(ids)).tolist() == ids


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True), st.randoms())
def test_integers_come_back_in_any_order(ids, random):
    asked = random.sample(ids, len(ids))
    ids_map = IdMap(ids)
    codes = ids_map.encode(np.array(asked, dtype=np.int64))
    assert codes.dtype == np.int64
    assert codes.tolist() == [ids.index(value) for value in asked]
    assert ids_map.decode(codes).tolist() == asked


def test_unknown_ids_raise_with_count_and_example_or_are_marked():
    ids = IdMap(["a", "b"])
    with pytest.raises(KeyError, match="2 of 3 ids are unknown, for example 'x'"):
        ids.encode(["a", "x", "y"])
    assert ids.encode(["b", "x", None], unknown="mark").tolist() == [1, -1, -1]
    with pytest.raises(ValueError, match="unknown must be 'raise' or 'mark', got 'skip'"):
        ids.encode(["a"], unknown="skip")


def test_the_kinds_of_values_accepted():
    ids = IdMap(["a", "b", "c"])
    for values in (
        ["c", "a"],
        np.array(["c", "a"]),
        np.array(["c", "a"], dtype=object),
        pa.array(["c", "a"]),
        pa.array(["c", "a"], pa.large_string()),
        pa.array(["c", "a"]).dictionary_encode(),
        pa.chunked_array([["c"], ["a"]]),
    ):
        assert ids.encode(values).tolist() == [2, 0]
    assert IdMap([7, 8]).encode(np.array([8], dtype=np.int32)).tolist() == [1]
    assert ids.encode([]).tolist() == []


def test_membership_length_and_equality():
    ids = IdMap([3, 1])
    assert 3 in ids
    assert 2 not in ids
    assert len(ids) == 2
    assert ids == IdMap([3, 1])
    assert ids != IdMap([1, 3])
    assert IdMap.from_values(pa.chunked_array([[3, 1, None, 3]])) == IdMap([1, 3])


def test_errors():
    with pytest.raises(ValueError, match="'a' comes more than once"):
        IdMap(["a", "b", "a"])
    with pytest.raises(TypeError, match="all strings or all integers"):
        IdMap([1.5, 2.5])
    with pytest.raises(TypeError, match="all strings or all integers"):
        IdMap(["a", 1])
    with pytest.raises(TypeError, match="ids are strings, got integers"):
        IdMap(["a"]).encode([1])
    with pytest.raises(TypeError, match="must be strings or integers, got double"):
        IdMap([1]).encode([1.0])
    with pytest.raises(IndexError, match="at least 0, got -1"):
        IdMap(["a"]).decode([-1])
    with pytest.raises(IndexError):
        IdMap(["a"]).decode([1])


def test_ids_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        IdMap([1, 2]).ids[0] = 5
