"""Vectors of things, some missing, by id."""

import numpy as np
import pytest

from fusionops.data import Encoded, IdMap


def encoded() -> Encoded:
    vectors = np.array([[1, 2], [0, 0], [5, 6]], np.float32)
    return Encoded(IdMap(["a", "b", "c"]), vectors, np.array([True, False, True]), {"model": "m"})


def test_take_reorders_and_marks_strangers_as_missing() -> None:
    taken = encoded().take(IdMap(["c", "x", "b"]), missing="empty")
    assert taken.present.tolist() == [True, False, False]
    assert taken.vectors.tolist() == [[5, 6], [0, 0], [0, 0]]
    assert taken.source == {"model": "m"}


def test_take_raises_for_strangers() -> None:
    with pytest.raises(KeyError, match="unknown, for example 'x'"):
        encoded().take(IdMap(["x"]))


def test_what_a_missing_row_holds_is_never_read() -> None:
    vectors = np.array([[np.nan, 1]], np.float32)
    taken = Encoded(IdMap(["a"]), vectors, np.array([False])).take(IdMap(["a"]))
    assert taken.vectors.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"ids": ["a", "b", "c"]}, TypeError, "ids: expected IdMap, got list"),
        ({"vectors": np.ones((3, 2))}, TypeError, "vectors: expected float32, got float64"),
        ({"present": np.ones(3, int)}, TypeError, "present: expected bool, got int64"),
        ({"vectors": np.ones((2, 2), np.float32)}, ValueError, r"shape \[3, width\], got \[2, 2\]"),
        ({"present": np.ones(2, bool)}, ValueError, r"present: expected the shape \[3\]"),
        (
            {"vectors": np.full((3, 1), np.nan, np.float32)},
            ValueError,
            "got 2 rows with NaN or Inf, for example that of 'a'",
        ),
    ],
)
def test_errors(change: dict, error: type[Exception], sentence: str) -> None:
    parts = {"ids": encoded().ids, "vectors": encoded().vectors, "present": encoded().present}
    with pytest.raises(error, match=sentence):
        Encoded(**(parts | change))


def test_append_needs_one_width() -> None:
    other = Encoded(IdMap(["d"]), np.ones((1, 3), np.float32), np.array([True]))
    with pytest.raises(ValueError, match="expected vectors of 2 features, got 3"):
        encoded().append(other)
    same = Encoded(IdMap(["d"]), np.ones((1, 2), np.float32), np.array([True]))
    assert encoded().append(same).ids.ids.tolist() == ["a", "b", "c", "d"]
