"""The composition of torch operators that serves other devices, called on CPU tensors."""

from __future__ import annotations

import pytest
import torch
from support import (
    DTYPES,
    NORMALIZATIONS,
    accumulation,
    assert_bits,
    assert_topk,
    assert_within,
    bound,
    conditioned,
    inputs,
    name_of,
    normal,
    random_lists,
)

import fusionops
from fusionops import reference
from fusionops.ops import composition
from fusionops.ops.normalization import Norm

NOTHING = {"exclude": None, "allowed": None, "candidates": None}


@pytest.fixture(params=[1, 64, 1000, 1 << 22], autouse=True)
def chunk(request, monkeypatch):
    """Chunks of one column up to one chunk for all."""
    monkeypatch.setattr(composition, "CHUNK_ELEMENTS", request.param)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_values(dtype, normalization):
    user, item = inputs((9, 131, 7), dtype)
    norm = {"normalization": normalization}
    truth = reference.fusion_matrix(user.double(), item.double(), **norm)
    matrix = composition.fusion_matrix(user, item, Norm(**norm))
    assert matrix.dtype == dtype
    assert_within(matrix, truth, bound(user, item, **norm))
    found = composition.fusion_topk(user, item, 20, Norm(**norm), None, **NOTHING)
    assert found[0].dtype == accumulation(dtype)
    assert_topk(found, truth, 20, bound(user, item, accumulation(dtype), **norm))
    values = normal(131, 3, dtype=dtype, seed=3)
    result = composition.fusion_recommend(user, item, values, Norm(**norm))
    assert result.dtype == dtype
    torch.testing.assert_close(
        result,
        fusionops.fusion_recommend(user, item, values, **norm),
        rtol=2 * torch.finfo(dtype).eps + 1e-5,
        atol=1e-4,
    )


@pytest.mark.parametrize("k", [1, 10, 200])
def test_ties_and_lists_entry_by_entry(k):
    """Whole numbers: scores are exact, ties abound, and the order must be the operator's."""
    generator = torch.Generator().manual_seed(3)
    user = torch.randint(-2, 3, (6, 3), generator=generator).float()
    item = torch.randint(-2, 3, (150, 3), generator=generator).float()
    bias = torch.randint(-2, 3, (150,), generator=generator).float()
    bias[20], bias[21], bias[22] = torch.nan, -torch.inf, torch.inf
    lists = {
        "exclude": random_lists(6, 150, 60, seed=1),
        "candidates": random_lists(6, 150, 200, seed=2),
        "allowed": normal(6, 150, seed=3) > -1,
    }
    for names in ((), ("exclude",), ("candidates",), ("allowed",), tuple(lists)):
        chosen = {name: lists[name] if name in names else None for name in lists}
        norm = {"normalization": "none"}
        found = composition.fusion_topk(user, item, k, Norm(**norm), bias, **chosen)
        expected = fusionops.fusion_topk(user, item, k, item_bias=bias, **norm, **chosen)
        for ours, theirs in zip(found, expected, strict=True):
            assert_bits(ours, theirs)
    shared = {**NOTHING, "allowed": normal(150, seed=4) > 0}
    found = composition.fusion_topk(user, item, k, Norm("none"), None, **shared)
    expected = fusionops.fusion_topk(user, item, k, normalization="none", **shared)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients(normalization):
    user, item = (side.requires_grad_() for side in inputs((5, 40, 6), torch.float64))
    bias = normal(40, dtype=torch.float64, seed=4).requires_grad_()
    values = normal(40, 3, dtype=torch.float64, seed=5).requires_grad_()
    norm = {"normalization": normalization}
    pairs = [
        (
            composition.fusion_topk(user, item, 50, Norm(**norm), bias, **NOTHING)[0][:, :40],
            fusionops.fusion_topk(user, item, 50, item_bias=bias, **norm)[0][:, :40],
            (user, item, bias),
        ),
        (
            composition.fusion_recommend(user, item, values, Norm(**norm)),
            fusionops.fusion_recommend(user, item, values, **norm),
            (user, item, values),
        ),
        (
            composition.fusion_matrix(user, item, Norm(**norm)),
            fusionops.fusion_matrix(user, item, **norm),
            (user, item),
        ),
    ]
    for ours, theirs, leaves in pairs:
        grad = normal(*ours.shape, dtype=torch.float64, seed=6)
        found = torch.autograd.grad(ours, leaves, grad)
        expected = torch.autograd.grad(theirs, leaves, grad)
        for left, right in zip(found, expected, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_batches(normalization):
    user = normal(2, 1, 5, 4, dtype=torch.float64)
    item = conditioned(3, 9, 4, dtype=torch.float64, seed=1)
    values = normal(9, 2, dtype=torch.float64, seed=2)
    norm = {"normalization": normalization}
    torch.testing.assert_close(
        composition.fusion_matrix(user, item, Norm(**norm)),
        fusionops.fusion_matrix(user, item, **norm),
    )
    torch.testing.assert_close(
        composition.fusion_recommend(user, item, values, Norm(**norm)),
        fusionops.fusion_recommend(user, item, values, **norm),
    )


@pytest.mark.parametrize("shape", [(0, 5, 3), (4, 0, 3), (4, 5, 0)], ids=name_of)
def test_empty(shape):
    users, items, features = shape
    user, item = torch.ones(users, features), torch.ones(items, features)
    for normalization in NORMALIZATIONS:
        norm = {"normalization": normalization}
        assert_bits(
            composition.fusion_matrix(user, item, Norm(**norm)),
            fusionops.fusion_matrix(user, item, **norm),
        )
        found = composition.fusion_topk(user, item, 3, Norm(**norm), None, **NOTHING)
        expected = fusionops.fusion_topk(user, item, 3, **norm)
        for ours, theirs in zip(found, expected, strict=True):
            assert_bits(ours, theirs)


def test_zero_vectors_have_gradient_zero():
    user, item = inputs((5, 9, 4), torch.float32)
    user[1], item[2] = 0, 0
    user.requires_grad_(), item.requires_grad_()
    scores = composition.fusion_topk(user, item, 9, Norm("cosine"), None, **NOTHING)[0]
    user_grad, item_grad = torch.autograd.grad(scores.sum(), (user, item))
    assert not user_grad[1].any()
    assert not item_grad[2].any()
    assert user_grad.isfinite().all()
    assert item_grad.isfinite().all()


def test_padding_has_no_gradient():
    user, item = (side.requires_grad_() for side in inputs((3, 4, 5), torch.float32))
    found = composition.fusion_topk(user, item, 6, Norm("none"), None, **NOTHING)
    grad = torch.ones_like(found[0]).masked_fill(found[1] < 0, torch.nan)
    for gradient in torch.autograd.grad(found[0], (user, item), grad):
        assert gradient.isfinite().all()
