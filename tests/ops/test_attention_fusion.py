"""attention_fusion: values, weights and gradients of self-, cross- and pooled attention."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profile_support import Case, check, cotangents, gradients, presence
from support import DTYPES, assert_bits, name_of, normal

import fusionops
from fusionops import attention_fusion

# (B, Q, M, D, Dv, H): ones, odd sizes around vector widths, pooling, many tokens, D past 256.
SIZES = [
    (1, 1, 1, 1, 1, 1),
    (7, 3, 9, 31, 7, 1),
    (31, 1, 4, 64, 64, 4),
    (127, 2, 2, 8, 4, 2),
    (7, 5, 5, 127, 127, 1),
    (3, 31, 33, 64, 128, 2),
    (2, 7, 127, 300, 31, 1),
    (1, 9, 300, 64, 300, 4),
    (5, 8, 8, 128, 128, 4),
    (2, 127, 31, 14, 6, 2),
    (1, 3, 4096, 16, 16, 2),
]
FORMS = ["plain", "mask", "one-mask", "both-masks", "shared", "shared-masks"]


def case_of(size, form, **fixed):
    batch, rows, tokens, features, width, heads = size
    shapes = {
        "query": (1 if "shared" in form else batch, rows, features),
        "key": (batch, tokens, features),
        "value": (batch, tokens, width),
    }
    fixed["num_heads"] = heads
    if "mask" in form:
        mask = presence(batch, tokens, 1)
        fixed["mask"] = mask[0] if "one" in form else mask
    if "masks" in form:
        fixed["query_mask"] = presence(batch, rows, 2, 0)
    return Case(form, "attention_fusion", shapes, fixed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_values_and_gradients(size, dtype, form):
    case = case_of(size, form, return_weights=form in ("mask", "both-masks", "shared"))
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 31, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=name_of)
def test_self_attention(dtype, tokens, heads):
    """Query, key and value are one tensor, whose gradients add up; both masks are one."""
    mask = presence(5, tokens, 1)
    for fixed in ({}, {"mask": mask, "query_mask": mask, "return_weights": True}):
        shapes = {"tokens": (5, tokens, 12)}
        case = Case("self", "attention_fusion", shapes, {**fixed, "num_heads": heads})
        check(case, case.leaves(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_shared_query_in_all_its_forms(rows, dtype):
    """``[Q, D]``, ``[1, Q, D]`` and expanded to ``[B, Q, D]``; its gradient is of its shape."""
    key, value = normal(31, 5, 8, dtype=dtype, seed=1), normal(31, 5, 6, dtype=dtype, seed=2)
    query = normal(rows, 8, dtype=dtype)
    options = {"mask": presence(31, 5), "num_heads": 2}
    results, grads = [], []
    for form in (query, query.unsqueeze(0), query.expand(31, rows, 8)):
        leaf = form.detach().requires_grad_()
        result = attention_fusion(leaf, key, value, **options)
        results.append(result.detach())
        grads.append(torch.autograd.grad(result, leaf, cotangents((result,)))[0])
        assert grads[-1].shape == form.shape
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])
    torch.testing.assert_close(grads[1][0], grads[0])
    rounding = 16 * torch.finfo(dtype).eps
    total = grads[2].double().sum(0)
    assert float((grads[0].double() - total).norm()) <= rounding * float(grads[2].double().norm())


def test_by_hand():
    """Weights 1/4 and 3/4 of (4, 8) and (8, 0)."""
    query = torch.tensor([[[math.log(3), 7.0]]], requires_grad=True)
    key = torch.tensor([[[0.0, 0.0], [math.sqrt(2), 0.0]]])
    value = torch.tensor([[[4.0, 8.0], [8.0, 0.0]]], requires_grad=True)
    fused, weights = attention_fusion(query, key, value, return_weights=True)
    torch.testing.assert_close(fused, torch.tensor([[[7.0, 2.0]]]))
    torch.testing.assert_close(weights, torch.tensor([[[[0.25, 0.75]]]]))
    fused[0, 0, 0].backward()
    torch.testing.assert_close(value.grad, torch.tensor([[[0.25, 0.0], [0.75, 0.0]]]))
    # w1 w2 (v2 - v1) times the difference of the keys, by the scale.
    torch.testing.assert_close(query.grad, torch.tensor([[[3 / 16 * 4, 0.0]]]))


def test_heads_are_slices_of_the_features():
    query, key, value = normal(3, 5, 8), normal(3, 7, 8, seed=1), normal(3, 7, 12, seed=2)
    found, weights = attention_fusion(query, key, value, num_heads=4, return_weights=True)
    for head in range(4):
        own, sums = slice(2 * head, 2 * head + 2), slice(3 * head, 3 * head + 3)
        part, shares = attention_fusion(
            query[..., own], key[..., own], value[..., sums], return_weights=True
        )
        torch.testing.assert_close(found[..., sums], part)
        torch.testing.assert_close(weights[:, head], shares[:, 0])


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [(5, 3, 7, 8, 12, 4), (9, 4, 4, 6, 6, 1), (2, 1, 130, 4, 4, 2)])
def test_is_scaled_dot_product_attention(size, masked, scale):
    """The drop-in, to 1e-12 in float64, with gradients."""
    batch, rows, tokens, features, width, heads = size
    shapes = ((batch, rows, features), (batch, tokens, features), (batch, tokens, width))
    leaves = [
        normal(*shape, dtype=torch.float64, seed=seed).requires_grad_()
        for seed, shape in enumerate(shapes)
    ]
    mask = presence(batch, tokens, nothing=None) if masked else None
    expected = torch.nn.functional.scaled_dot_product_attention(
        *[split(leaf, heads) for leaf in leaves],
        attn_mask=mask[:, None, None, :] if masked else None,
        scale=scale,
    )
    expected = expected.transpose(1, 2).flatten(2)
    found = attention_fusion(*leaves, mask, num_heads=heads, scale=scale)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    grad = normal(*found.shape, dtype=torch.float64, seed=9)
    ours = torch.autograd.grad(found, leaves, grad)
    theirs = torch.autograd.grad(expected, leaves, grad)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_the_weights_are_those_that_were_applied():
    query, key, value = normal(5, 3, 8), normal(5, 7, 8, seed=1), normal(5, 7, 6, seed=2)
    options = {"num_heads": 2, "mask": presence(5, 7), "query_mask": presence(5, 3, 1, 0)}
    fused, weights = attention_fusion(query, key, value, return_weights=True, **options)
    assert weights.shape == (5, 2, 3, 7)
    torch.testing.assert_close((weights @ split(value, 2)).transpose(1, 2).flatten(2), fused)
    assert_bits(attention_fusion(query, key, value, **options), fused)
    sums = weights.sum(-1)
    there = options["mask"].any(1)[:, None, None] & options["query_mask"].unsqueeze(1)
    torch.testing.assert_close(sums, there.float().expand_as(sums))
    assert not weights.masked_select(~options["mask"][:, None, None, :]).any()


def test_what_is_returned():
    side = normal(2, 3, 4)
    assert type(attention_fusion(side, side, side)) is torch.Tensor
    found = attention_fusion(side, side, side, return_weights=True)
    assert type(found) is tuple
    assert len(found) == 2
    assert fusionops.attention_fusion is fusionops.ops.attention_fusion


@pytest.mark.parametrize("scale", [0.0, 1, 0.3, -2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
def test_scale(dtype, scale):
    case = case_of((5, 3, 7, 8, 6, 2), "both-masks", scale=scale, return_weights=True)
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("tokens", [5, 300])
def test_huge_scores(tokens, dtype):
    """Whole numbers, exact in every dtype: scores of +-10,000 and more overflow nothing."""
    generator = torch.Generator().manual_seed(3)
    case = case_of((3, 7, tokens, 4, 4, 1), "both-masks", scale=1e4, return_weights=True)
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
        (0, 3, 4, 6, 6, 2),
        (2, 0, 4, 6, 6, 2),
        (2, 3, 0, 6, 6, 2),
        (2, 3, 4, 0, 0, 2),
        (2, 3, 4, 6, 0, 2),
        (0, 0, 0, 0, 0, 1),
    ],
    ids=name_of,
)
def test_empty(size, form, dtype):
    batch, rows, tokens, _, width, heads = size
    form = form.replace("one-", "") if batch == 0 else form
    case = case_of(size, form, return_weights=True)
    leaves = case.leaves(dtype)
    fused, weights = case(**leaves)
    assert fused.shape == (batch, rows, width)
    assert weights.shape == (batch, heads, rows, tokens)
    assert fused.dtype == weights.dtype == dtype
    assert not fused.any()
    grads = gradients(case, leaves, [torch.ones_like(fused), torch.zeros_like(weights)])
    for name, grad in grads.items():
        assert grad.shape == leaves[name].shape
        assert not grad.any()


def test_no_features_to_compare_is_the_mean():
    value = normal(2, 5, 6)
    found = attention_fusion(torch.ones(2, 3, 0), torch.ones(2, 5, 0), value, num_heads=2)
    torch.testing.assert_close(found, value.mean(1, keepdim=True).expand(2, 3, 6))


@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["query", "key", "value"])
@pytest.mark.parametrize("tokens", [4, 70])
def test_what_is_present_and_not_finite_stays_in_its_entity(tokens, name, special):
    case = case_of((5, 3, tokens, 8, 8, 2), "plain", return_weights=True)
    leaves = case.leaves(torch.float32)
    expected = case(**leaves)
    grads = [torch.ones_like(result) for result in expected]
    clean = gradients(case, leaves, grads)
    leaves[name][2, 1] = special
    found = case(**leaves)
    others = torch.arange(5) != 2
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours[others], theirs[others])
    assert not found[0][2].isfinite().all()
    if name == "query":  # and in its row
        assert_bits(found[0][2, ::2], expected[0][2, ::2])
    for key, grad in gradients(case, leaves, grads).items():
        assert_bits(grad[others], clean[key][others])


@given(
    size=st.tuples(*[st.integers(1, 6)] * 2, *[st.integers(1, 40)] * 3, st.integers(1, 4)),
    form=st.sampled_from(FORMS),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_any_shape(size, form, dtype, seed):
    batch, rows, tokens, width, value_width, heads = size
    size = (batch, rows, tokens, heads * width, heads * value_width, heads)
    case = case_of(size, form, return_weights=seed % 2 == 0)
    check(case, case.leaves(dtype, seed))
