"""bidirectional_fusion: values and gradients, edges, both directions by one matrix."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profile_support import Case, check, cotangents, gradients, presence
from support import DTYPES, assert_bits, name_of, normal

import fusionops
from fusionops import bidirectional_fusion

# (B, N, M, D, Du, Di): ones, odd sizes, past blocks of either side, D past 256.
SIZES = [
    (1, 1, 1, 1, 1, 1),
    (7, 3, 9, 31, 31, 31),
    (3, 31, 5, 7, 1, 64),
    (3, 127, 31, 64, 64, 64),
    (2, 33, 300, 7, 7, 7),
    (1, 129, 257, 33, 127, 5),
    (1, 1, 127, 300, 300, 300),
    (1, 7, 1, 127, 300, 31),
    (1, 700, 513, 16, 16, 16),
]


def case_of(size, form):
    batch, left, right, features, user_width, item_width = size
    shapes = {"user": (batch, left, features), "item": (batch, right, features)}
    if "values" in form:
        shapes["user_value"] = (batch, left, user_width)
        shapes["item_value"] = (batch, right, item_width)
    fixed = {}
    if "masks" in form:
        fixed = {"user_mask": presence(batch, left, 1, 0), "item_mask": presence(batch, right, 2)}
    if "one" in form:
        fixed = {name: mask[-1 if name == "user_mask" else 0] for name, mask in fixed.items()}
    return Case(form, "bidirectional_fusion", shapes, fixed)


FORMS = ["plain", "masks", "values", "values-masks", "values-one-masks"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_values_and_gradients(size, dtype, form):
    case = case_of(size, form)
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("one", ["user_value", "item_value"])
def test_one_side_with_values_of_its_own(one):
    case = case_of((3, 5, 7, 6, 4, 9), "values-masks")
    shapes = {name: shape for name, shape in case.shapes.items() if name in ("user", "item", one)}
    case = Case("one", case.operator, shapes, case.fixed)
    for dtype in DTYPES:
        check(case, case.leaves(dtype))


def test_by_hand():
    """Scores (0, ln 3): the row gives 1/4 and 3/4, each column of one row all of it."""
    user = torch.tensor([[[1.0]]], requires_grad=True)
    item = torch.tensor([[[0.0], [math.log(3)]]])
    item_value = torch.tensor([[[4.0, 0.0], [8.0, 4.0]]])
    user_value = torch.tensor([[[5.0, 6.0, 7.0]]])
    from_item, from_user = bidirectional_fusion(user, item, user_value, item_value)
    torch.testing.assert_close(from_item, torch.tensor([[[7.0, 3.0]]]))
    assert_bits(from_user, user_value.expand(1, 2, 3))
    from_item[0, 0, 0].backward()
    # w1 w2 (v2 - v1) times the difference of the items.
    torch.testing.assert_close(user.grad, torch.tensor([[[3 / 16 * 4 * math.log(3)]]]))


@pytest.mark.parametrize("masked", [False, True])
def test_is_two_attentions(masked):
    """The drop-in for two ``scaled_dot_product_attention`` calls, to 1e-12, with gradients."""
    names = ("user", "item", "user_value", "item_value")
    sizes = ((3, 7, 6), (3, 9, 6), (3, 7, 4), (3, 9, 5))
    leaves = [
        normal(*size, dtype=torch.float64, seed=seed).requires_grad_()
        for seed, size in enumerate(sizes)
    ]
    masks = {"user_mask": presence(3, 7, 1, None), "item_mask": presence(3, 9, 2, None)}
    user, item, user_value, item_value = leaves
    left = right = None
    if masked:
        left = masks["item_mask"].unsqueeze(1).expand(3, 7, 9)
        right = masks["user_mask"].unsqueeze(1).expand(3, 9, 7)
    attend = torch.nn.functional.scaled_dot_product_attention
    expected = [
        attend(user, item, item_value, attn_mask=left),
        attend(item, user, user_value, attn_mask=right),
    ]
    found = bidirectional_fusion(**dict(zip(names, leaves, strict=True)), **masks if masked else {})
    if masked:  # ours are zero where the asking token is missing
        expected[0] = expected[0] * masks["user_mask"].unsqueeze(-1)
        expected[1] = expected[1] * masks["item_mask"].unsqueeze(-1)
    torch.testing.assert_close(found, tuple(expected), rtol=1e-12, atol=1e-12)
    grads = cotangents(found)
    ours = torch.autograd.grad(found, leaves, grads)
    theirs = torch.autograd.grad(expected, leaves, grads)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_sides_swapped_are_results_swapped(dtype):
    user, item = normal(3, 7, 33, dtype=dtype), normal(3, 40, 33, dtype=dtype, seed=1)
    mask = presence(3, 7)
    found = bidirectional_fusion(user, item, user_mask=mask)
    other = bidirectional_fusion(item, user, item_mask=mask)
    torch.testing.assert_close(found, other[::-1])


def test_values_default_to_the_sides():
    user, item = normal(3, 7, 33), normal(3, 9, 33, seed=1)
    found = bidirectional_fusion(user, item)
    assert isinstance(found, tuple)
    for ours, theirs in zip(found, bidirectional_fusion(user, item, user, item), strict=True):
        assert_bits(ours, theirs)
    assert fusionops.bidirectional_fusion is fusionops.ops.bidirectional_fusion


@pytest.mark.parametrize("scale", [0.0, 1, 0.3, -2.0, None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
def test_scale(dtype, scale):
    case = case_of((3, 7, 9, 5, 4, 3), "values-masks")
    case = Case("scale", case.operator, case.shapes, {**case.fixed, "scale": scale})
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_huge_scores(dtype):
    """Whole numbers, exact in every dtype: scores of +-10,000 and more overflow nothing."""
    generator = torch.Generator().manual_seed(3)
    case = case_of((3, 40, 70, 4, 4, 4), "masks")
    case = Case("huge", case.operator, case.shapes, {**case.fixed, "scale": 1e4})
    leaves = {
        name: torch.randint(-3, 4, shape, generator=generator).to(dtype)
        for name, shape in case.shapes.items()
    }
    check(case, leaves, arrives=2.0**-14)  # gradients in the range of float16


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "size",
    [
        (0, 3, 4, 5, 5, 5),
        (2, 0, 4, 5, 5, 5),
        (2, 3, 0, 5, 5, 5),
        (2, 3, 4, 0, 0, 0),
        (0, 0, 0, 0, 0, 0),
    ],
    ids=name_of,
)
def test_empty(size, form, dtype):
    batch, left, right, features, user_width, item_width = size
    if batch == 0:
        form = form.replace("-one", "")
    case = case_of(size, form)
    widths = (item_width, user_width) if "values" in form else (features, features)
    leaves = case.leaves(dtype)
    results = case(**leaves)
    assert [result.shape for result in results] == [
        (batch, left, widths[0]),
        (batch, right, widths[1]),
    ]
    assert all(result.dtype == dtype for result in results)
    assert all(not result.any() for result in results)
    grads = gradients(case, leaves, [torch.ones_like(result) for result in results])
    for name, grad in grads.items():
        assert grad.shape == leaves[name].shape
        assert not grad.any()


def test_values_of_no_width():
    case = case_of((2, 3, 4, 5, 0, 0), "values")
    leaves = case.leaves(torch.float32)
    results = case(**leaves)
    assert [result.shape for result in results] == [(2, 3, 0), (2, 4, 0)]
    assert not any(grad.any() for grad in gradients(case, leaves, results).values())


def test_no_features_to_compare_is_the_mean():
    """D = 0 with values of their own: all scores are 0."""
    blank, user_value, item_value = torch.ones(2, 3, 0), normal(2, 3, 4), normal(2, 5, 6, seed=1)
    found = bidirectional_fusion(blank, torch.ones(2, 5, 0), user_value, item_value)
    torch.testing.assert_close(found[0], item_value.mean(1, keepdim=True).expand(2, 3, 6))
    torch.testing.assert_close(found[1], user_value.mean(1, keepdim=True).expand(2, 5, 4))


@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["user", "item", "user_value", "item_value"])
def test_what_is_present_and_not_finite_stays_in_its_entity(name, special):
    case = case_of((5, 3, 40, 9, 9, 9), "values")
    leaves = case.leaves(torch.float32)
    expected = case(**leaves)
    grads = [torch.ones_like(result) for result in expected]
    clean = gradients(case, leaves, grads)
    leaves[name][2, 1] = special
    found = case(**leaves)
    others = torch.arange(5) != 2
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours[others], theirs[others])
    assert not all(result[2].isfinite().all() for result in found)
    for key, grad in gradients(case, leaves, grads).items():
        assert_bits(grad[others], clean[key][others])


@given(
    size=st.tuples(
        st.integers(1, 6),
        st.integers(1, 70),
        st.integers(1, 70),
        *[st.integers(1, 40)] * 3,
    ),
    form=st.sampled_from(FORMS),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_any_shape(size, form, dtype, seed):
    case = case_of(size, form)
    check(case, case.leaves(dtype, seed))
