"""The same bits for any number of threads and on every run (rule 4)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support import (
    NORMALIZATIONS,
    OPERATORS,
    assert_bits,
    conditioned,
    inputs,
    name_of,
    normal,
    random_lists,
    scores_of,
)

from fusionops import fusion_topk

# Several tasks each way; a few users with a long catalogue; D for a blocked eigendecomposition.
SHAPES = [(300, 9000, 70), (2, 50_000, 17), (65, 700, 260)]


def run(operator, sides, threads, **norm):
    torch.set_num_threads(threads)
    leaves = [side.detach().requires_grad_() for side in sides]
    result = scores_of(operator, *leaves, k=20, **norm)
    grad = normal(*result.shape, dtype=result.dtype, seed=9)
    used = leaves if operator == "fusion_recommend" else leaves[:2]
    return [result.detach(), *torch.autograd.grad(result, used, grad)]


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_threads(operator, normalization, shape):
    sides = [*inputs(shape, torch.float32), normal(shape[1], 24, seed=3)]
    expected = run(operator, sides, 1, normalization=normalization)
    for threads in (2, 3, 1):
        found = run(operator, sides, threads, normalization=normalization)
        for ours, theirs in zip(found, expected, strict=True):
            assert_bits(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=name_of)
@pytest.mark.parametrize("normalization", ["matrix", "cosine"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_threads_in_other_dtypes(operator, normalization, dtype):
    sides = [*inputs((130, 5000, 33), dtype), normal(5000, 24, dtype=dtype, seed=3)]
    expected = run(operator, sides, 1, normalization=normalization)
    for ours, theirs in zip(
        run(operator, sides, 2, normalization=normalization), expected, strict=True
    ):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("shape", [(1, 3, 50_000), (3, 1, 50_000), (1, 1, 50_000)], ids=name_of)
@pytest.mark.parametrize("operator", OPERATORS)
def test_threads_with_one_long_row(operator, shape, dtype):
    """The gradient of a norm is a product of rows, which ``torch.sum`` splits if it is one."""
    sides = [*inputs(shape, dtype), normal(shape[1], 50_000, dtype=dtype, seed=3)]
    expected = run(operator, sides, 1, normalization="cosine")
    for threads in (2, 3):
        found = run(operator, sides, threads, normalization="cosine")
        for ours, theirs in zip(found, expected, strict=True):
            assert_bits(ours, theirs)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("operator", ["fusion_matrix", "fusion_recommend"])
def test_threads_over_a_batch(operator, normalization):
    sides = [
        normal(5, 60, 40),
        conditioned(5, 900, 40, seed=1),
        normal(5, 900, 16, seed=2),
    ]
    expected = run(operator, sides, 1, normalization=normalization)
    for ours, theirs in zip(
        run(operator, sides, 2, normalization=normalization), expected, strict=True
    ):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("users", [3, 200])
def test_threads_with_lists(users):
    user, item = inputs((users, 9000, 24), torch.float32)
    lists = {
        "exclude": random_lists(users, 9000, 500, seed=1),
        "candidates": random_lists(users, 9000, 3000, seed=2),
        "allowed": normal(users, 9000, seed=3) > -1,
        "item_bias": normal(9000, seed=4),
    }
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(fusion_topk(user, item, 30, **lists))
    for scores, indices in results[1:]:
        assert_bits(scores, results[0][0])
        assert_bits(indices, results[0][1])


@pytest.mark.parametrize("operator", OPERATORS)
def test_runs(operator):
    sides = [*inputs((300, 5000, 33), torch.float32), normal(5000, 24, seed=3)]
    expected = run(operator, sides, 2, normalization="matrix")
    for _ in range(5):
        for ours, theirs in zip(
            run(operator, sides, 2, normalization="matrix"), expected, strict=True
        ):
            assert_bits(ours, theirs)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_score_does_not_depend_on_its_company(normalization):
    """Users alone, in pairs or among hundreds, and the place of an item: the same bits."""
    user, item = inputs((130, 5003, 45), torch.float32)
    scores, indices = fusion_topk(user, item, 15, normalization=normalization)
    for rows in (slice(0, 1), slice(7, 9), slice(64, 129)):
        part = fusion_topk(user[rows], item, 15, normalization=normalization)
        assert_bits(part[0], scores[rows])
        assert_bits(part[1], indices[rows])


@pytest.mark.parametrize("operator", OPERATORS)
def test_calls_from_several_python_threads(operator):
    sides = [*inputs((60, 3000, 33), torch.float32), normal(3000, 24, seed=3)]
    expected = scores_of(operator, *sides, normalization="matrix")
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(scores_of, operator, *sides, normalization="matrix") for _ in range(8)]
    for call in calls:
        assert_bits(call.result(), expected)
