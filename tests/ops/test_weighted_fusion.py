"""weighted_fusion: values and gradients, special logits, edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profile_support import Case, check, gradients, presence, weighted
from support import DTYPES, assert_bits, name_of, normal

import fusionops
from fusionops import weighted_fusion

# (B, M, D): ones, odd sizes around vector widths, many tokens, D past 256.
SIZES = [
    (1, 1, 1),
    (7, 3, 31),
    (31, 9, 64),
    (127, 4, 7),
    (3, 2, 127),
    (7, 33, 127),
    (2, 31, 300),
    (2, 300, 64),
    (5, 127, 1),
    (1, 5, 300),
    (1, 4096, 7),
]
ALL = ["own", "shared", "own-mask", "shared-mask", "own-one-mask", "shared-one-mask"]


def case_of(size, form):
    batch, tokens, _features = size
    logits = (tokens,) if "shared" in form else (batch, tokens)
    fixed = {}
    if "mask" in form:
        mask = presence(batch, tokens, 1)
        fixed["mask"] = mask[0] if "one" in form else mask
    return Case(form, "weighted_fusion", {"values": size, "logits": logits}, fixed)


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_values_and_gradients(size, dtype, form):
    case = case_of(size, form)
    check(case, case.leaves(dtype))


@pytest.mark.parametrize("kind", DTYPES, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_logits_of_any_floating_dtype(dtype, kind):
    """The result has the dtype of the values, the gradient of the logits theirs."""
    for form in ("own-mask", "shared"):
        case = case_of((31, 4, 17), form)
        leaves = case.leaves(dtype)
        # Whole quarters, so that no dtype rounds them.
        leaves["logits"] = (leaves["logits"] * 4).round().to(kind) / 4
        result = check(case, leaves)[0]
        assert result.dtype == dtype


def test_by_hand():
    """Weights 1/4 and 3/4 of (4, 8) and (8, 0); the gradient of a logit is w (v - fused)."""
    values = torch.tensor([[[4.0, 8.0], [8.0, 0.0]]], requires_grad=True)
    logits = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    fused = weighted_fusion(values, logits)
    torch.testing.assert_close(fused, torch.tensor([[7.0, 2.0]]))
    fused[0, 0].backward()
    torch.testing.assert_close(values.grad, torch.tensor([[[0.25, 0.0], [0.75, 0.0]]]))
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25 * (4 - 7), 0.75 * (8 - 7)]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=name_of)
def test_is_the_eager_sum(dtype):
    values, logits = normal(40, 5, 33, dtype=dtype), normal(40, 5, dtype=dtype, seed=1)
    mask = presence(40, 5, nothing=None)
    masked = logits.masked_fill(~mask, -torch.inf)
    expected = (torch.softmax(masked, 1).unsqueeze(-1) * values).sum(1)
    rounding = 1e-12 if dtype == torch.float64 else 1e-5
    found = weighted_fusion(values, logits, mask)
    torch.testing.assert_close(found, expected, rtol=rounding, atol=rounding)
    # What stands for a missing modality by hand, a logit of -inf, is the same.
    found = weighted_fusion(values, masked)
    torch.testing.assert_close(found, expected, rtol=rounding, atol=rounding)


def test_is_exported():
    assert fusionops.weighted_fusion is fusionops.ops.weighted_fusion
    assert type(weighted_fusion(torch.ones(1, 1, 1), torch.ones(1))) is torch.Tensor


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("form", ["own-mask", "shared"])
def test_logits_of_minus_infinity(form, dtype):
    """At tokens that are present: weight 0 and gradient 0, and nothing is NaN."""
    case = case_of((31, 9, 17), form)
    leaves = case.leaves(dtype)
    leaves["logits"][..., ::2] = -torch.inf
    check(case, leaves)
    grads = gradients(case, leaves, [torch.ones(31, 17, dtype=dtype)])
    assert not grads["values"][:, ::2].any()
    assert not grads["logits"][..., ::2].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("form", ALL)
def test_all_logits_of_minus_infinity(form, dtype):
    """No weight to give: zeros and zero gradients, as for an entity with nothing present."""
    case = case_of((5, 9, 17), form)
    leaves = case.leaves(dtype)
    leaves["logits"].fill_(-torch.inf)
    result = check(case, leaves)[0]
    assert not result.any()
    for grad in gradients(case, leaves, [torch.ones_like(result)]).values():
        assert not grad.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("sign", [1, -1])
def test_huge_logits(sign, dtype):
    """Whole numbers around +-10,000: nothing overflows, and differences count."""
    case = case_of((31, 9, 17), "own")
    leaves = case.leaves(dtype)
    steps = torch.randint(0, 9, (31, 9), generator=torch.Generator().manual_seed(1))
    leaves["logits"] = (sign * (10_000 + 8 * steps)).to(torch.float32)
    check(case, leaves)
    leaves["logits"][:, 0] = 10_000 * sign
    leaves["logits"][:, 1:] = -10_000 * sign
    check(case, leaves)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("special", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["values", "logits"])
def test_what_is_present_and_not_finite_stays_in_its_entity(where, special, dtype):
    case = case_of((9, 5, 19), "own")
    leaves = case.leaves(dtype)
    expected = case(**leaves)[0]
    grads = gradients(case, leaves, [torch.ones_like(expected)])
    leaves[where][4, 2] = special
    found = case(**leaves)[0]
    others = torch.arange(9) != 4
    assert_bits(found[others], expected[others])
    assert not found[4].isfinite().any()
    for name, grad in gradients(case, leaves, [torch.ones_like(expected)]).items():
        assert_bits(grad[others], grads[name][others])


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize("size", [(0, 3, 5), (4, 0, 5), (4, 3, 0), (0, 0, 0)], ids=name_of)
def test_empty(size, form, dtype):
    case = case_of(size, form if size[0] else form.replace("-one", ""))
    leaves = case.leaves(dtype)
    result = case(**leaves)[0]
    assert result.shape == (size[0], size[2])
    assert result.dtype == dtype
    assert not result.any()
    for name, grad in gradients(case, leaves, [torch.ones_like(result)]).items():
        assert grad.shape == leaves[name].shape
        assert not grad.any()


@pytest.mark.parametrize("tokens", [1, 5])
def test_one_token_present_is_returned(tokens):
    values = normal(7, tokens, 33)
    mask = torch.zeros(tokens, dtype=torch.bool)
    mask[-1] = True
    assert_bits(weighted_fusion(values, normal(7, tokens, seed=1), mask), values[:, -1])


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 70)),
    form=st.sampled_from(ALL),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_any_shape(size, form, dtype, seed):
    case = case_of(size, form)
    check(case, case.leaves(dtype, seed))


def test_the_truth_ignores_order():
    """Of this file's own truth: the tokens of an entity are a set."""
    values, logits = normal(3, 6, 4, dtype=torch.float64), normal(3, 6, dtype=torch.float64)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        weighted(values[:, order], logits[:, order]), weighted(values, logits)
    )
