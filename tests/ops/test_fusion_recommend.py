"""fusion_recommend: the product ``F @ values`` by either association."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import (
    DTYPES,
    NORMALIZATIONS,
    accumulation,
    assert_gradients,
    assert_within,
    conditioned,
    epsilon,
    inputs,
    magnitude,
    name_of,
    normal,
)
from torch.utils._python_dispatch import TorchDispatchMode

from fusionops import fusion_recommend, reference
from fusionops.ops.fusion_recommend import direct_is_cheaper

# (U, P, D, R): both associations (few users: user @ item.T first), one column, D and R past 256.
SHAPES = [
    (1, 1, 1, 1),
    (1, 31, 7, 1),
    (1, 127, 31, 300),
    (7, 31, 127, 127),
    (31, 7, 31, 7),
    (127, 127, 1, 31),
    (31, 127, 300, 5),
    (5, 31, 513, 31),
    (3, 4500, 31, 7),
    (127, 4500, 7, 31),
]


def truth_and_bound(user, item, values, **norm):
    truth = reference.fusion_recommend(user.double(), item.double(), values.double(), **norm)
    terms = math.sqrt(user.shape[-1]) + 2 * math.sqrt(item.shape[-2])
    sums = epsilon(accumulation(user.dtype)) * (4 + terms)
    sizes = magnitude(user, item, **norm) @ values.double().abs()
    tiny = torch.finfo(user.dtype).smallest_normal
    return truth, epsilon(user.dtype) / 2 * truth.abs() + sums * sizes + tiny


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
def test_values(shape, dtype, normalization):
    user, item = inputs(shape[:3], dtype)
    values = normal(shape[1], shape[3], dtype=dtype, seed=7)
    result = fusion_recommend(user, item, values, normalization=normalization)
    assert result.dtype == dtype
    assert_within(result, *truth_and_bound(user, item, values, normalization=normalization))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (1, 31, 7, 31), (31, 7, 127, 1), (31, 127, 31, 7)], ids=name_of
)
def test_gradients(shape, dtype, normalization):
    user, item = inputs(shape[:3], dtype)
    values = normal(shape[1], shape[3], dtype=dtype, seed=7)
    grad = normal(shape[0], shape[3], dtype=dtype, seed=8)
    leaves = [leaf.requires_grad_() for leaf in (user, item, values)]
    result = fusion_recommend(*leaves, normalization=normalization)
    assert_gradients(
        torch.autograd.grad(result, leaves, grad),
        lambda *sides: reference.fusion_recommend(*sides, normalization=normalization),
        grad,
        *leaves,
    )


@pytest.mark.parametrize("needed", ["user", "item", "values"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradient_of_one_input_alone(normalization, needed):
    sides = dict(zip(("user", "item"), inputs((5, 9, 4), torch.float64), strict=True))
    sides["values"] = normal(9, 3, dtype=torch.float64)
    truth = {name: side.clone().requires_grad_() for name, side in sides.items()}
    reference.fusion_recommend(**truth, normalization=normalization).sum().backward()
    sides[needed].requires_grad_()
    fusion_recommend(**sides, normalization=normalization).sum().backward()
    torch.testing.assert_close(sides[needed].grad, truth[needed].grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(
    ("left", "right", "last"),
    [
        ((3,), (3,), (3,)),
        ((), (3,), (3,)),
        ((3,), (), ()),
        ((), (), (3,)),
        ((2, 1), (3,), (2, 3)),
        ((3,), (), (1,)),
    ],
)
@pytest.mark.parametrize("users", [1, 12])
def test_batches_broadcast(users, left, right, last, normalization):
    user = normal(*left, users, 7, dtype=torch.float64).requires_grad_()
    item = conditioned(*right, 9, 7, dtype=torch.float64, seed=3).requires_grad_()
    values = normal(*last, 9, 5, dtype=torch.float64, seed=6).requires_grad_()
    result = fusion_recommend(user, item, values, normalization=normalization)
    assert result.shape == (*torch.broadcast_shapes(left, right, last), users, 5)
    truth = reference.fusion_recommend(user, item, values, normalization=normalization)
    torch.testing.assert_close(result, truth, rtol=1e-12, atol=1e-12)
    grad = normal(*result.shape, dtype=torch.float64, seed=9)
    found = torch.autograd.grad(result, (user, item, values), grad)
    expected = torch.autograd.grad(truth, (user, item, values), grad)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    "shape", [(0, 4, 3, 2), (4, 0, 3, 2), (4, 5, 0, 2), (4, 5, 3, 0), (0, 0, 0, 0)], ids=name_of
)
@pytest.mark.parametrize("batch", [(), (0,), (2,)])
def test_empty(batch, shape, dtype, normalization):
    users, items, features, columns = shape
    sides = [
        torch.ones(*batch, *sizes, dtype=dtype, requires_grad=True)
        for sizes in ((users, features), (items, features), (items, columns))
    ]
    result = fusion_recommend(*sides, normalization=normalization)
    assert result.dtype == dtype
    assert result.shape == (*batch, users, columns)
    assert not result.any()
    found = torch.autograd.grad(result.sum(), sides)
    assert [grad.shape for grad in found] == [side.shape for side in sides]
    assert not any(grad.any() for grad in found)


class NativeCalls(TorchDispatchMode):
    """The names of the native operators that are called, in order, and the largest tensor made."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        if func.namespace == "fusionops":
            self.names.append(func.__name__.split(".")[0])
            self.largest = max(self.largest, result.numel())
        return result


@pytest.mark.parametrize(
    ("shape", "direct"),
    [
        ((1024, 100_000, 64, 64), False),  # users, items, features, outputs
        ((1024, 1024, 64, 64), False),
        ((1, 127, 31, 300), True),
        ((1000, 10, 64, 64), True),
        ((1, 1, 1, 1), False),  # a tie
    ],
    ids=str,
)
def test_the_cheaper_association_is_taken(shape, direct):
    users, items, features, outputs = shape
    assert direct_is_cheaper(*shape) == direct
    sides = torch.ones(users, features), torch.ones(items, features), torch.ones(items, outputs)
    with NativeCalls() as calls:
        fusion_recommend(*sides, normalization="none")
    products = ["fusion_matrix", "fusion_contract"]
    assert calls.names == (products if direct else products[::-1])
    assert calls.largest == max(users * outputs, users * items if direct else outputs * features)


@pytest.mark.parametrize("normalization", ["diagonal", "cosine", "matrix"])
@pytest.mark.parametrize("users", [1, 20])
def test_zero_vectors_recommend_nothing(users, normalization):
    user, item = inputs((users, 9, 4), torch.float32)
    item[5] = 0
    user[0] = 0
    values = normal(9, 6)
    leaves = [leaf.requires_grad_() for leaf in (user, item, values)]
    result = fusion_recommend(*leaves, normalization=normalization)
    assert not result[0].any()
    user_grad, item_grad, values_grad = torch.autograd.grad(result.sum(), leaves)
    assert user_grad.isfinite().all()
    assert item_grad.isfinite().all()
    assert not values_grad[5].any()
    if normalization != "matrix":
        assert not item_grad[5].any()
    if normalization == "cosine":
        assert not user_grad[0].any()


@given(
    shape=st.tuples(*[st.integers(0, 40)] * 4),
    dtype=st.sampled_from(DTYPES),
    normalization=st.sampled_from(NORMALIZATIONS),
    seed=st.integers(0, 1000),
)
def test_any_shape(shape, dtype, normalization, seed):
    users, items, _, columns = shape
    user, item = inputs(shape[:3], dtype, seed)
    values = normal(items, columns, dtype=dtype, seed=seed + 1)
    result = fusion_recommend(user, item, values, normalization=normalization)
    if 0 in shape:
        assert result.shape == (users, columns)
        assert not result.any()
    else:
        assert_within(result, *truth_and_bound(user, item, values, normalization=normalization))
