import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusionops.evaluation.ranking import top_k

# Few distinct values, so that ties are the rule; both zeros, NaN and infinities among them.
VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, -1e-40, 1e30, np.nan, np.inf, -np.inf])


def by_sorting(scores, k):
    rows_scores, rows_items = [], []
    for row in scores:
        kept = [i for i in range(len(row)) if not np.isnan(row[i]) and row[i] != -np.inf]
        order = sorted(kept, key=lambda i, row=row: (-row[i], i))[:k]
        rows_items.append(order + [-1] * (k - len(order)))
        rows_scores.append([row[i] for i in order] + [-np.inf] * (k - len(order)))
    return rows_scores, rows_items


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=VALUES),
    st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_against_sorting(scores, k):
    found_scores, found_items = top_k(scores, k)
    expected_scores, expected_items = by_sorting(scores, k)
    assert found_scores.dtype == np.float32
    assert found_items.dtype == np.int64
    assert found_items.tolist() == expected_items
    np.testing.assert_array_equal(found_scores, np.array(expected_scores, np.float32))


def test_columns_name_the_items():
    _, items = top_k(np.array([[1.0, 3.0, 3.0]]), 2, columns=np.array([4, 6, 9]))
    assert items.tolist() == [[6, 9]]


def test_empty():
    assert top_k(np.empty((0, 4)), 2)[1].shape == (0, 2)
    assert top_k(np.empty((2, 0)), 2)[1].tolist() == [[-1, -1], [-1, -1]]
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        top_k(np.zeros((1, 1)), 0)
