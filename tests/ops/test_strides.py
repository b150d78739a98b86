"""Any strides give the bits of contiguous inputs, in value and gradient (design rule 2)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS, offset
from support import (
    DTYPES,
    NORMALIZATIONS,
    OPERATORS,
    assert_bits,
    conditioned,
    name_of,
    normal,
    scores_of,
)


def name(layout):
    return layout.__name__


def run(operator, sides, grad=None, **norm):
    """The result and the gradients, with the layouts of the leaves and of `grad` as they are."""
    leaves = [side.detach().requires_grad_() for side in sides]
    result = scores_of(operator, *leaves, **norm)
    if grad is None:
        grad = normal(*result.shape, dtype=result.dtype, seed=9)
    used = leaves if operator == "fusion_recommend" else leaves[:2]
    return [result.detach(), *torch.autograd.grad(result, used, grad)]


def sides(dtype, batch=()):
    return (
        normal(*batch, 9, 33, dtype=dtype),
        conditioned(*batch, 41, 33, dtype=dtype, seed=1),
        normal(*batch, 41, 7, dtype=dtype, seed=2),
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("operator", OPERATORS)
def test_inputs(operator, dtype, normalization, layout):
    inputs = [layout(side) for side in sides(dtype)]
    assert not any(side.is_contiguous() for side in inputs) or layout is offset
    found = run(operator, inputs, normalization=normalization)
    expected = run(operator, [side.contiguous() for side in inputs], normalization=normalization)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("normalization", ["diagonal", "matrix"])
@pytest.mark.parametrize("operator", ["fusion_matrix", "fusion_recommend"])
def test_batched_inputs(operator, normalization, layout):
    inputs = [layout(side) for side in sides(torch.float32, batch=(2, 3))]
    inputs[1] = inputs[1][:1].expand_as(inputs[1])
    found = run(operator, inputs, normalization=normalization)
    expected = run(operator, [side.contiguous() for side in inputs], normalization=normalization)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("operator", OPERATORS)
def test_incoming_gradients(operator, dtype, normalization, layout):
    inputs = sides(dtype)
    shape = scores_of(operator, *inputs).shape
    grad = layout(normal(*shape, dtype=dtype, seed=5))
    if operator == "fusion_topk" and dtype == torch.bfloat16:
        grad = layout(normal(*shape, dtype=torch.float32, seed=5))
    found = run(operator, inputs, grad, normalization=normalization)
    expected = run(operator, inputs, grad.contiguous(), normalization=normalization)
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("operator", OPERATORS)
def test_gradient_of_a_sum(operator):
    """``.sum().backward()`` brings a gradient expanded from one number."""
    inputs = [side.requires_grad_() for side in sides(torch.float32)]
    result = scores_of(operator, *inputs)
    used = inputs if operator == "fusion_recommend" else inputs[:2]
    found = torch.autograd.grad(result.sum(), used, retain_graph=True)
    expected = torch.autograd.grad(result, used, torch.ones_like(result))
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("operator", OPERATORS)
def test_inputs_are_left_alone(operator):
    inputs = sides(torch.float32)
    copies = [side.clone() for side in inputs]
    run(operator, inputs)
    for side, copy in zip(inputs, copies, strict=True):
        assert_bits(side, copy)


@pytest.mark.parametrize("operator", OPERATORS)
def test_lazy_negation(operator):
    """A view whose numbers are stored with the other sign, as ``conj().imag`` gives."""
    inputs = [torch.complex(side, side).conj().imag for side in sides(torch.float32)]
    assert inputs[0].is_neg()
    expected = scores_of(operator, *[side.resolve_neg() for side in inputs])
    assert_bits(scores_of(operator, *inputs), expected)


@given(
    operator=st.sampled_from(OPERATORS),
    dtype=st.sampled_from(DTYPES),
    normalization=st.sampled_from(NORMALIZATIONS),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 4),
)
def test_any_mixture(operator, dtype, normalization, layouts):
    inputs = [layout(side) for layout, side in zip(layouts, sides(dtype), strict=False)]
    result = scores_of(operator, *inputs, normalization=normalization)
    grad = layouts[3](normal(*result.shape, dtype=result.dtype, seed=5))
    found = run(operator, inputs, grad, normalization=normalization)
    expected = run(
        operator,
        [side.contiguous() for side in inputs],
        grad.contiguous(),
        normalization=normalization,
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)
