"""fusion_topk: values, order, ties, padding and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import (
    DTYPES,
    NORMALIZATIONS,
    SHAPES,
    accumulation,
    assert_bits,
    assert_gradients,
    assert_topk,
    bound,
    epsilon,
    inputs,
    name_of,
    normal,
)

from fusionops import fusion_matrix, fusion_topk, reference


def check(user, item, k, **norm):
    found = fusion_topk(user, item, k, **norm)
    assert found[0].dtype == accumulation(user.dtype)
    truth = reference.fusion_matrix(user.double(), item.double(), **norm)
    assert_topk(found, truth, k, bound(user, item, accumulation(user.dtype), **norm))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_values(shape, dtype, normalization):
    """A list of ten: shorter than the catalogue, or padded."""
    check(*inputs(shape, dtype), 10, normalization=normalization)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("k", [1, 2, 31, 127, 128, 300, 1024, 1025, 1500])
@pytest.mark.parametrize("shape", [(3, 1000, 7), (2, 4097, 8), (1, 12289, 5)], ids=name_of)
def test_lengths(shape, k, dtype):
    """1,025 and more are past the kernel's longest list; at P = 1,000 they also pad."""
    check(*inputs(shape, dtype), k, normalization="diagonal")


@pytest.mark.parametrize("items", [4095, 4096, 4097, 8191, 8192, 8193, 16385])
def test_around_the_splits(items):
    check(*inputs((2, items, 4), torch.float32), 50, normalization="none")


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=name_of)
@pytest.mark.parametrize("shape", [(37, 611, 31), (3, 9001, 33), (1, 129, 300)], ids=name_of)
def test_scores_are_the_entries_of_fusion_matrix(shape, dtype, normalization):
    """Bit for bit: a score's additions run in one order whatever tile holds it."""
    user, item = inputs(shape, dtype)
    matrix = fusion_matrix(user, item, normalization=normalization)
    scores, indices = fusion_topk(user, item, 40, normalization=normalization)
    assert_bits(scores, matrix.gather(1, indices))
    rows, columns = [0, -1], slice(5, 66)
    part = fusion_matrix(user[rows], item[columns], normalization="none")
    assert_bits(part, fusion_matrix(user, item, normalization="none")[rows][:, columns])


@pytest.mark.parametrize("normalization", ["diagonal", "cosine", "none"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
def test_half_scores_round_to_the_entries_of_fusion_matrix(dtype, normalization):
    user, item = inputs((9, 500, 31), dtype)
    matrix = fusion_matrix(user, item, normalization=normalization)
    scores, indices = fusion_topk(user, item, 40, normalization=normalization)
    assert_bits(scores.to(dtype), matrix.gather(1, indices))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("items", [1, 33, 5000, 40_000])
@pytest.mark.parametrize("k", [1, 20, 700])
def test_all_equal(items, k, dtype):
    """Nothing but ties: the first k, whatever the tiles and splits."""
    user, item = torch.ones(3, 2, dtype=dtype), torch.ones(1, 2, dtype=dtype).expand(items, 2)
    scores, indices = fusion_topk(user, item, k, normalization="none")
    kept = min(items, k)
    assert torch.equal(indices[:, :kept], torch.arange(kept).expand(3, kept))
    assert bool((scores[:, :kept] == 2).all())
    assert bool((indices[:, kept:] == -1).all())
    assert bool((scores[:, kept:] == -torch.inf).all())


@pytest.mark.parametrize("values", [2, 5, 50])
@pytest.mark.parametrize("items", [97, 4100, 20_000])
@pytest.mark.parametrize("k", [1, 10, 500])
def test_ties(k, items, values):
    """Few distinct whole scores, exact in float32, so the order is known entry by entry."""
    generator = torch.Generator().manual_seed(items + values)
    item = torch.randint(-values, values + 1, (items, 1), generator=generator).float()
    user = torch.tensor([[1.0], [-1.0], [2.0], [0.0]])
    expected = torch.argsort(user @ item.T, dim=1, descending=True, stable=True)[:, :k]
    scores, indices = fusion_topk(user, item, k, normalization="none")
    kept = expected.shape[1]
    assert torch.equal(indices[:, :kept], expected)
    assert torch.equal(scores[:, :kept], (user @ item.T).gather(1, expected))


def test_ties_of_zeros_of_either_sign():
    item = torch.tensor([[-0.0], [0.0], [-0.0], [1.0], [0.0]])
    _, indices = fusion_topk(torch.tensor([[1.0], [-1.0]]), item, 5, normalization="none")
    assert indices.tolist() == [[3, 0, 1, 2, 4], [0, 1, 2, 4, 3]]


@pytest.mark.parametrize("descending", [False, True])
def test_sorted_catalogue(descending):
    """The best and the worst order for a running threshold."""
    ranks = torch.arange(30_000, dtype=torch.float32)
    item = (ranks.flip(0) if descending else ranks).unsqueeze(1)
    scores, indices = fusion_topk(torch.ones(1, 1), item, 300, normalization="none")
    assert torch.equal(scores[0], ranks.flip(0)[:300])
    assert torch.equal(indices[0], torch.arange(300) if descending else 29_999 - torch.arange(300))


@pytest.mark.parametrize("k", [3, 50])
def test_nan_and_infinities(k):
    """NaN and -inf are never listed, +inf is."""
    item = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, 2.0, -torch.nan, -3.0])
    scores, indices = fusion_topk(
        torch.ones(2, 1), item.unsqueeze(1).repeat(1, 1), k, normalization="none"
    )
    expected = [2, 4, 0, 6][:k]
    for row, line in zip(indices.tolist(), scores.tolist(), strict=True):
        assert row == expected + [-1] * (k - len(expected))
        assert line[: len(expected)] == [torch.inf, 2.0, 1.0, -3.0][:k]
        assert line[len(expected) :] == [-torch.inf] * (k - len(expected))


@pytest.mark.parametrize("poison", [torch.nan, -torch.inf])
def test_nothing_to_list(poison):
    for user, item in (
        (torch.full((2, 3), poison), torch.ones(5000, 3)),
        (torch.ones(2, 3), torch.full((5000, 3), poison)),
    ):
        scores, indices = fusion_topk(user, item, 7, normalization="none")
        assert bool((indices == -1).all())
        assert bool((scores == -torch.inf).all())


def test_bias_of_minus_infinity_removes_an_item():
    user, item = inputs((3, 50, 4), torch.float32)
    bias = torch.zeros(50)
    bias[::2] = -torch.inf
    bias[1] = torch.nan
    _, indices = fusion_topk(user, item, 50, item_bias=bias)
    for row in indices.tolist():
        assert sorted(row[:24]) == list(range(3, 50, 2))
        assert row[24:] == [-1] * 26


@pytest.mark.parametrize("bias_dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_item_bias(normalization, dtype, bias_dtype):
    user, item = inputs((7, 300, 31), dtype)
    bias = 3 * normal(300, dtype=bias_dtype, seed=4)
    found = fusion_topk(user, item, 20, normalization=normalization, item_bias=bias)
    assert found[0].dtype == accumulation(dtype)
    truth = reference.fusion_matrix(user.double(), item.double(), normalization=normalization)
    limit = bound(user, item, accumulation(dtype), normalization=normalization)
    limit = limit + epsilon(accumulation(dtype)) * (truth.abs() + 2 * bias.double().abs())
    assert_topk(found, truth + bias.double(), 20, limit)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", [(0, 5, 3), (4, 0, 3), (4, 5, 0), (0, 0, 0)], ids=name_of)
def test_empty(shape, dtype, normalization):
    users, items, features = shape
    user = torch.ones(users, features, dtype=dtype, requires_grad=True)
    item = torch.ones(items, features, dtype=dtype, requires_grad=True)
    scores, indices = fusion_topk(user, item, 3, normalization=normalization)
    assert scores.dtype == accumulation(dtype)
    assert scores.shape == indices.shape == (users, 3)
    if items == 0:
        assert bool((indices == -1).all())
        assert bool((scores == -torch.inf).all())
    else:  # D = 0: every score is an empty sum
        assert torch.equal(indices, torch.arange(3).expand(users, 3))
        assert not scores.any()
    found = torch.autograd.grad(scores, (user, item), torch.ones_like(scores))
    assert [grad.shape for grad in found] == [user.shape, item.shape]
    assert not any(grad.any() for grad in found)


def test_zero_vectors_score_zero():
    user, item = inputs((4, 40, 5), torch.float32)
    item[[3, 30]] = 0
    user[1] = 0
    for normalization in NORMALIZATIONS:
        scores, indices = fusion_topk(user, item, 40, normalization=normalization)
        assert not scores[(indices == 3) | (indices == 30)].any()
        assert not scores[1].any()
        assert torch.equal(indices[1], torch.arange(40))


def chosen_scores(indices, k, **norm):
    """The differentiable scores of known pairs, by way of the whole matrix."""

    def scores(user, item, bias=None):
        matrix = reference.fusion_matrix(user, item, **norm)
        if bias is not None:
            matrix = matrix + bias
        picked = matrix.gather(1, indices.clamp_min(0))
        return picked.masked_fill(indices < 0, -torch.inf)

    return scores


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    ("shape", "k"),
    [((1, 1, 1), 1), ((31, 7, 127), 9), ((7, 127, 31), 20), ((3, 4500, 7), 300)],
    ids=name_of,
)
def test_gradients(shape, k, dtype, normalization):
    """They scatter to the chosen pairs, padding excepted."""
    user, item = (side.requires_grad_() for side in inputs(shape, dtype))
    bias = normal(shape[1], dtype=accumulation(dtype), seed=3).requires_grad_()
    scores, indices = fusion_topk(user, item, k, normalization=normalization, item_bias=bias)
    grad = normal(shape[0], k, dtype=scores.dtype, seed=4)
    assert not indices.requires_grad
    found = torch.autograd.grad(scores, (user, item, bias), grad)
    truth = chosen_scores(indices, k, normalization=normalization)
    assert_gradients(found[:2], truth_of_sides(truth, bias), grad, user, item)
    chosen = indices >= 0
    expected = torch.zeros(shape[1], dtype=torch.float64)
    expected.index_add_(0, indices[chosen], grad.double()[chosen])
    torch.testing.assert_close(
        found[2].double(), expected, rtol=0, atol=64 * epsilon(scores.dtype) * float(grad.norm())
    )


def truth_of_sides(truth, bias):
    return lambda user, item: truth(user, item, bias.detach().double())


def test_gradient_of_the_bias_has_its_dtype():
    user, item = inputs((3, 20, 4), torch.bfloat16)
    for dtype in (torch.float32, torch.bfloat16):
        bias = torch.zeros(20, dtype=dtype, requires_grad=True)
        fusion_topk(user, item, 5, item_bias=bias)[0].sum().backward()
        assert bias.grad.dtype == dtype
        assert float(bias.grad.sum()) == 15


def test_padding_has_no_gradient():
    """Even where what arrives for it is NaN, as inf - inf makes it."""
    user, item = (side.requires_grad_() for side in inputs((3, 4, 5), torch.float32))
    scores, indices = fusion_topk(user, item, 6)
    grad = torch.ones_like(scores).masked_fill(indices < 0, torch.nan)
    for found in torch.autograd.grad(scores, (user, item), grad):
        assert found.isfinite().all()


def test_wide_by_strides():
    """Three million items that are one row of memory: index arithmetic, no storage."""
    items = 3_000_000
    item = torch.tensor([[1.0, 2.0]]).expand(items, 2)
    bias = torch.zeros(items)
    bias[2_999_999], bias[1_500_000] = 1, 1
    scores, indices = fusion_topk(torch.ones(2, 2), item, 4, normalization="none", item_bias=bias)
    assert indices.tolist() == [[1_500_000, 2_999_999, 0, 1]] * 2
    assert scores.tolist() == [[4, 4, 3, 3]] * 2


def test_row_stride_past_32_bits():
    """Rows of one column, two rows 2^31 + 8 numbers apart: virtual memory that nothing touches."""
    apart = 2**31 + 8
    storage = torch.empty(apart + 8, dtype=torch.float16)
    item = storage.as_strided((2, 4), (apart, 1))
    item.copy_(torch.tensor([[1.0, 0, 0, 0], [3.0, 4, 0, 0]]))
    user = torch.tensor([[1.0, 2, 0, 0]], dtype=torch.float16)
    scores, indices = fusion_topk(user, item, 2)
    assert indices.tolist() == [[1, 0]]
    torch.testing.assert_close(scores, torch.tensor([[2.2, 1.0]]))
    matrix = fusion_matrix(user, item, normalization="none")
    assert matrix.tolist() == [[1, 11]]


@given(
    users=st.integers(0, 20),
    items=st.integers(0, 300),
    features=st.integers(1, 40),
    k=st.integers(1, 60),
    dtype=st.sampled_from(DTYPES),
    normalization=st.sampled_from(NORMALIZATIONS),
    seed=st.integers(0, 1000),
)
def test_any_shape(users, items, features, k, dtype, normalization, seed):
    check(*inputs((users, items, features), dtype, seed), k, normalization=normalization)
