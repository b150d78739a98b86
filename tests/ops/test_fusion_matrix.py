"""fusion_matrix against its definition, and what it promises beyond its values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import (
    DTYPES,
    NORMALIZATIONS,
    SHAPES,
    assert_bits,
    assert_gradients,
    assert_within,
    bound,
    conditioned,
    inputs,
    name_of,
    normal,
)

from fusionops import fusion_matrix, reference


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_values(shape, dtype, normalization):
    user, item = inputs(shape, dtype)
    result = fusion_matrix(user, item, normalization=normalization)
    assert result.dtype == dtype
    truth = reference.fusion_matrix(user.double(), item.double(), normalization=normalization)
    assert_within(result, truth, bound(user, item, normalization=normalization))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (7, 31, 1), (31, 7, 127), (31, 127, 31), (5, 9, 300), (3, 4500, 7)],
    ids=name_of,
)
def test_gradients(shape, dtype, normalization):
    user, item = inputs(shape, dtype)
    grad = normal(shape[0], shape[1], dtype=dtype, seed=5)
    leaves = user.requires_grad_(), item.requires_grad_()
    found = torch.autograd.grad(fusion_matrix(*leaves, normalization=normalization), leaves, grad)
    assert_gradients(
        found,
        lambda user, item: reference.fusion_matrix(user, item, normalization=normalization),
        grad,
        *leaves,
    )


@pytest.mark.parametrize(
    "norm",
    [
        {"normalization": "diagonal", "eps": 0.3},
        {"normalization": "cosine", "eps": 0.3},
        {"normalization": "matrix", "power": 0.0},
        {"normalization": "matrix", "power": 1.0},
        {"normalization": "matrix", "power": 0.25},
        {"normalization": "matrix", "power": 1.0, "ridge": 2.5},
        {"normalization": "matrix", "power": -0.5, "ridge": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(7, 31, 17), (7, 17, 31)], ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_variants(dtype, shape, norm):
    user, item = inputs(shape, dtype)
    truth = reference.fusion_matrix(user.double(), item.double(), **norm)
    assert_within(fusion_matrix(user, item, **norm), truth, bound(user, item, **norm))


@pytest.mark.parametrize(("power", "ridge"), [(0.5, 0.0), (1.0, 0.0), (1.0, 3.0), (0.3, 0.7)])
@pytest.mark.parametrize("shape", [(4, 6, 11), (4, 11, 6), (4, 9, 9)], ids=name_of)
def test_matrix_is_the_power_of_the_item_similarities(shape, power, ridge):
    """The definition itself, by way of the P x P matrix, with NumPy."""
    user, item = (side.numpy() for side in inputs(shape, torch.float64))
    values, vectors = np.linalg.eigh(item @ item.T)
    kept = values > 1e-9 * values.max()
    values, vectors = values[kept], vectors[:, kept]
    expected = user @ item.T @ (vectors * (values + ridge) ** -power) @ vectors.T
    result = fusion_matrix(
        torch.from_numpy(user),
        torch.from_numpy(item),
        normalization="matrix",
        power=power,
        ridge=ridge,
    )
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-11, atol=1e-12)


def test_diagonal_and_cosine_by_hand():
    user = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)
    item = torch.tensor([[1.0, 0.0], [6.0, 8.0], [0.0, -0.5]], dtype=torch.float64)
    diagonal = torch.tensor([[3.0, 5.0, -4.0], [0.0, 1.6, -2.0]], dtype=torch.float64)
    lengths = torch.tensor([[5.0], [2.0]], dtype=torch.float64)
    torch.testing.assert_close(fusion_matrix(user, item), diagonal)
    torch.testing.assert_close(
        fusion_matrix(user, item, normalization="cosine"), diagonal / lengths
    )
    torch.testing.assert_close(
        fusion_matrix(user, item, eps=3.0)[0, 0], torch.tensor(1.5, dtype=torch.float64)
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(
    ("left", "right"),
    [((3,), (3,)), ((), (3,)), ((3,), ()), ((2, 1), (3,)), ((2, 3), (1, 3)), ((1,), (2, 3))],
)
def test_batches_broadcast(left, right, normalization):
    user = normal(*left, 5, 7, dtype=torch.float64)
    item = conditioned(*right, 9, 7, dtype=torch.float64, seed=3)
    result = fusion_matrix(user, item, normalization=normalization)
    batch = torch.broadcast_shapes(left, right)
    assert result.shape == (*batch, 5, 9)
    users, items = user.expand(*batch, 5, 7), item.expand(*batch, 9, 7)
    for index in np.ndindex(*batch):
        single = fusion_matrix(users[index], items[index], normalization=normalization)
        torch.testing.assert_close(result[index], single, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_of_broadcast_batches_are_summed(normalization):
    user = normal(2, 1, 4, 5, dtype=torch.float64).requires_grad_()
    item = conditioned(3, 6, 5, dtype=torch.float64, seed=3).requires_grad_()
    grad = normal(2, 3, 4, 6, dtype=torch.float64, seed=4)
    found = torch.autograd.grad(
        fusion_matrix(user, item, normalization=normalization), (user, item), grad
    )
    assert_gradients(
        found,
        lambda user, item: reference.fusion_matrix(user, item, normalization=normalization),
        grad,
        user,
        item,
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((0, 3), (4, 3)),
        ((4, 3), (0, 3)),
        ((2, 0), (3, 0)),
        ((0, 0), (0, 0)),
        ((0, 2, 3), (0, 4, 3)),
        ((2, 0, 3), (2, 4, 3)),
    ],
)
def test_empty(left, right, dtype, normalization):
    user = torch.ones(left, dtype=dtype, requires_grad=True)
    item = torch.ones(right, dtype=dtype, requires_grad=True)
    result = fusion_matrix(user, item, normalization=normalization)
    assert result.dtype == dtype
    assert result.shape == (*left[:-1], right[-2])
    assert not result.any()
    found = torch.autograd.grad(result.sum(), (user, item))
    assert [grad.shape for grad in found] == [user.shape, item.shape]
    assert not any(grad.any() for grad in found)


@pytest.mark.parametrize("eps", [0.0, 0.5])
@pytest.mark.parametrize("normalization", ["diagonal", "cosine", "matrix"])
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_zero_vectors_score_zero_with_gradient_zero(dtype, normalization, eps):
    user, item = inputs((5, 9, 4), dtype)
    item[[2, 5]] = 0
    user[3] = 0
    user.requires_grad_(), item.requires_grad_()
    result = fusion_matrix(user, item, normalization=normalization, eps=eps)
    assert not result[:, [2, 5]].any()
    assert not result[3].any()
    user_grad, item_grad = torch.autograd.grad(result, (user, item), torch.ones_like(result))
    assert user_grad.isfinite().all()
    assert item_grad.isfinite().all()
    if normalization != "matrix":  # its row space is spanned by the others, and moves with them
        assert not item_grad[[2, 5]].any()
    if normalization == "cosine":
        assert not user_grad[3].any()


def test_all_items_zero():
    for normalization in NORMALIZATIONS:
        user, item = normal(3, 4).requires_grad_(), torch.zeros(5, 4, requires_grad=True)
        result = fusion_matrix(user, item, normalization=normalization)
        assert not result.any()
        user_grad, item_grad = torch.autograd.grad(result.sum(), (user, item))
        assert not user_grad.any()
        assert item_grad.isfinite().all()


@pytest.mark.parametrize("normalization", ["diagonal", "cosine", "matrix"])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scale_of_the_items_does_not_matter(normalization, scale):
    """At eps 0 and power 1/2, F is of degree 0 in the items, tiny or huge."""
    user, item = inputs((5, 9, 4), torch.float32)
    torch.testing.assert_close(
        fusion_matrix(user, item * scale, normalization=normalization),
        fusion_matrix(user, item, normalization=normalization),
        rtol=1e-5,
        atol=1e-5,
    )


def test_half_sums_do_not_overflow():
    """300 squares of 300 pass float16's largest number; in float32 they do not."""
    user, item = torch.ones(2, 300, dtype=torch.float16), torch.full((3, 300), 300.0).half()
    expected = torch.full((2, 3), 300 / 300**0.5)
    torch.testing.assert_close(fusion_matrix(user, item).float(), expected, rtol=1e-3, atol=0)
    cosine = fusion_matrix(item, item, normalization="cosine")
    torch.testing.assert_close(cosine.float(), torch.ones(3, 3), rtol=1e-3, atol=0)


def test_nan_stays_in_its_rows():
    user, item = inputs((6, 40, 9), torch.float32)
    clean = fusion_matrix(user, item)
    user[2, 3], item[17, 0] = torch.nan, torch.inf
    result = fusion_matrix(user, item)
    rows = [0, 1, 3, 4, 5]
    columns = [column for column in range(40) if column != 17]
    assert result[2].isnan().all()
    assert_bits(result[rows][:, columns], clean[rows][:, columns])


@given(
    users=st.integers(0, 40),
    items=st.integers(0, 70),
    features=st.integers(0, 70),
    dtype=st.sampled_from(DTYPES),
    normalization=st.sampled_from(NORMALIZATIONS),
    seed=st.integers(0, 1000),
)
def test_any_shape(users, items, features, dtype, normalization, seed):
    user, item = inputs((users, items, features), dtype, seed)
    result = fusion_matrix(user, item, normalization=normalization)
    if 0 in (users, items, features):
        assert result.shape == (users, items)
        assert not result.any()
        return
    truth = reference.fusion_matrix(user.double(), item.double(), normalization=normalization)
    assert_within(result, truth, bound(user, item, normalization=normalization))
