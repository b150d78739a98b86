"""Contenders that compute something else are found out."""

import pytest
import torch
from comparison.agreement import assert_agree

FLOATS = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
INDICES = torch.arange(400).reshape(20, 20)


def test_equal_results_agree_and_theirs_may_be_fewer():
    assert_agree((FLOATS, INDICES), (FLOATS + 1e-5, INDICES))
    assert_agree((torch.tensor(2.0), FLOATS), (torch.tensor(2.0),))


@pytest.mark.parametrize(
    "theirs",
    [
        (FLOATS + 0.01,),
        (FLOATS.index_fill(0, torch.tensor([1]), torch.nan),),
        (FLOATS[:, :1],),
        (FLOATS, INDICES + 1),
        (),
    ],
)
def test_others_do_not(theirs):
    with pytest.raises(AssertionError):
        assert_agree((FLOATS, INDICES), theirs)


def test_a_scalar_that_differs_is_found():
    with pytest.raises(AssertionError, match="result 0"):
        assert_agree((torch.tensor(2.0),), (torch.tensor(2.1),))


def test_stray_rows_and_swapped_indices_are_allowed_in_small_numbers():
    strayed = FLOATS.repeat(100, 1)
    theirs = strayed.clone()
    theirs[7] += 1
    assert_agree((strayed,), (theirs,), stray_rows=0.01)
    swapped = INDICES.clone()
    swapped[0, 0], swapped[0, 1] = INDICES[0, 1], INDICES[0, 0]
    assert_agree((INDICES,), (swapped,))
