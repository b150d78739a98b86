"""fusion_matrix and fusion_contract in Triton: values, gradients, strides, parts of split sums."""

from __future__ import annotations

import pytest
import torch
from support import (
    assert_bits,
    assert_gradients,
    assert_within,
    bound,
    epsilon,
    inputs,
    name_of,
    normal,
)
from triton_support import INTERPRETED, needs_triton, served

import fusionops
from fusionops import reference

pytestmark = needs_triton

PRODUCTS = torch.ops.fusionops_triton


def products(left, right, left_scale=None, right_scale=None, inner_scale=None):
    """The definition, in float64, and the sum of absolute terms, which errors grow with."""
    left, right = left.double(), right.double()
    left = left if inner_scale is None else left * inner_scale.double().unsqueeze(-2)
    outer = left.new_ones(()) if left_scale is None else left_scale.double().unsqueeze(-1)
    outer = outer if right_scale is None else outer * right_scale.double().unsqueeze(-2)
    return left @ right.mT * outer, left.abs() @ right.abs().mT * outer.abs()


def limit(found, truth, size):
    tiny = torch.finfo(found.dtype).smallest_normal * epsilon(found.dtype)
    return epsilon(found.dtype) * truth.abs() + 64 * epsilon(torch.float32) * size + tiny


@pytest.mark.parametrize(
    ("mode", "dtype", "normalization"),
    [
        *((*way, name) for way in INTERPRETED for name in ("diagonal", "cosine", "matrix")),
        ("compiled", torch.bfloat16, "diagonal"),
    ],
    ids=name_of,
)
def test_values_and_gradients(mode, dtype, normalization):
    user, item = inputs((33, 47, 21), dtype)
    norm = {"normalization": normalization}
    leaves = [user.requires_grad_(), item.requires_grad_()]
    grad = normal(33, 47, dtype=dtype, seed=3)
    with served(mode):
        found = fusionops.fusion_matrix(user, item, **norm)
        slopes = torch.autograd.grad(found, leaves, grad)
    truth = reference.fusion_matrix(user.detach().double(), item.detach().double(), **norm)
    assert_within(found, truth, bound(user.detach(), item.detach(), **norm))
    assert_gradients(slopes, lambda u, i: reference.fusion_matrix(u, i, **norm), grad, *leaves)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1), (2, 7, 31, 1), (3, 31, 33, 127), (1, 130, 140, 70), (2, 3, 5, 0), (0, 3, 4, 5)],
    ids=name_of,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=name_of)
def test_shapes(dtype, shape):
    batch, users, items, width = shape
    left = normal(batch, width, users, dtype=dtype).mT
    right = normal(batch, items, width + 3, dtype=dtype, seed=1)[..., :width]
    scales = normal(batch, users, seed=2), normal(batch, items, seed=3)
    with served("interpreted"):
        found = PRODUCTS.fusion_matrix(left, right, *scales, None)
    assert found.dtype == dtype
    truth, size = products(left, right, *scales)
    assert_within(found, truth, limit(found, truth, size))


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        ("interpreted", torch.float32),
        ("compiled", torch.float32),
        ("compiled", torch.bfloat16),
        ("compiled", torch.float16),
    ],
    ids=name_of,
)
def test_the_largest_tiles(mode, dtype):
    """More than one whole tile each way, and strides of no whole vector."""
    left = normal(1, 150, 101, dtype=dtype)[..., 1:]
    right = normal(1, 100, 170, dtype=dtype, seed=1).mT
    with served(mode):
        found = PRODUCTS.fusion_matrix(left, right, None, None, torch.float32)
    truth, size = products(left, right)
    assert_within(found, truth, limit(found, truth, size))


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [*INTERPRETED, ("compiled", torch.float16), ("compiled", torch.bfloat16)],
    ids=name_of,
)
def test_sums_in_parts(mode, dtype):
    """A long sum is split; its scales may be out of float16's range."""
    left, right = normal(2, 2500, 9, dtype=dtype), normal(2, 2500, 20, dtype=dtype, seed=1)
    for scale in (normal(2, 2500, seed=2), normal(2, 2500, seed=2) * 1e-9, None):
        with served(mode):
            found = PRODUCTS.fusion_contract(left, right, scale, torch.float32)
            again = PRODUCTS.fusion_contract(left, right, scale, torch.float32)
        assert_bits(found, again)
        truth, size = products(left.mT, right.mT, inner_scale=scale)
        rounding = 0.0 if scale is None else epsilon(dtype)
        assert_within(found, truth, (rounding + 64 * epsilon(torch.float32)) * size)


def test_two_dtypes_meet_in_float32():
    """The users that normalization "matrix" maps are float32 beside half items."""
    user, item = normal(1, 33, 20), normal(1, 40, 20, dtype=torch.float16, seed=1)
    with served("interpreted"):
        found = PRODUCTS.fusion_matrix(user, item, None, None, torch.float32)
    truth, size = products(user, item)
    assert_within(found, truth, limit(found, truth, size))


def test_the_row_of_a_large_stride():
    """Offsets past 2^31 elements, in memory that nothing else touches."""
    apart = 2**30 + 8
    storage = torch.empty(2 * apart + 8, dtype=torch.float16)
    item = storage.as_strided((1, 3, 4), (0, apart, 1))
    item.copy_(torch.tensor([[[1.0, 0, 0, 0], [3.0, 4, 0, 0], [0, 0, 5, 0]]]))
    user = torch.tensor([[[1.0, 2, 3, 0]]], dtype=torch.float16)
    with served("compiled"):
        found = PRODUCTS.fusion_matrix(user, item, None, None, None)
    assert found.tolist() == [[[1, 11, 15]]]
