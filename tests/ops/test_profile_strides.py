"""Any strides of inputs and incoming gradients fuse profiles as contiguous ones do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS, transposed
from profile_support import Case, cases, cotangents
from support import DTYPES, accumulation, assert_bits, epsilon, name_of

from fusionops import attention_fusion, history_fusion, weighted_fusion

CASES = cases(batch=7, rows=5, tokens=9, features=34, table=31)


def batch_inside(x):
    """The batch varies fastest but for the features."""
    return x.transpose(0, -2).contiguous().transpose(0, -2)


def batch_last(x):
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def expanded_batch(x):
    return x[:1].expand_as(x)


def every_other_entity(x):
    return torch.stack([x, x + 1], 1).flatten(0, 1)[::2]


ALL = [*LAYOUTS, batch_inside, batch_last, expanded_batch, every_other_entity]


def laid_out(layout, x):
    """A layout of matrices for a vector too: one column of it."""
    return layout(x) if x.dim() > 1 else layout(torch.stack([x, x], 1))[:, 0]


def run(case, leaves, grads=None):
    """The results and the gradients, with the layouts of all as they are."""
    wanting = {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}
    results = case(**wanting)
    grads = [torch.ones_like(result) for result in results] if grads is None else grads
    found = torch.autograd.grad(results, list(wanting.values()), grads)
    return [*(result.detach() for result in results), *found]


def assert_near(found, expected, dtype):
    """Another order of additions at most: a unit of the last place, and of the sums."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        sums = 64 * epsilon(accumulation(dtype)) * max(float(theirs.abs().max()), 1)
        torch.testing.assert_close(ours, theirs, rtol=2 * epsilon(ours.dtype), atol=sums)


def contiguous(leaves):
    return {name: leaf.contiguous() for name, leaf in leaves.items()}


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_inputs(case, dtype, layout):
    leaves = {name: laid_out(layout, leaf) for name, leaf in case.leaves(dtype).items()}
    assert_near(run(case, leaves), run(case, contiguous(leaves)), dtype)


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_incoming_gradients(case, dtype, layout):
    leaves = case.leaves(dtype)
    grads = [layout(grad) for grad in cotangents(case(**leaves))]
    expected = run(case, leaves, [grad.contiguous() for grad in grads])
    assert_near(run(case, leaves, grads), expected, dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradient_of_a_sum(case):
    """``.sum().backward()`` brings a gradient expanded from one number."""
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves(torch.float32).items()}
    results = case(**leaves)
    found = torch.autograd.grad(sum(result.sum() for result in results), list(leaves.values()))
    assert_near(found, run(case, leaves)[len(results) :], torch.float32)


def strided(x):
    """Masks, ids and offsets with other strides; between them stands something else."""
    other = ~x if x.dtype == torch.bool else x + 1
    beside = torch.stack([x, other], -1).flatten(-2)[..., ::2]
    return [beside, transposed(x)] if x.dim() == 2 else [beside]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_masks_ids_and_offsets(case):
    leaves = case.leaves(torch.float32)
    expected = run(case, leaves)
    for name, value in case.fixed.items():
        if isinstance(value, torch.Tensor) and value.dim() and len(value) > 1:
            for form in strided(value):
                assert not form.is_contiguous()
                other = Case("strided", case.operator, case.shapes, {**case.fixed, name: form})
                assert_near(run(other, leaves), expected, torch.float32)


def test_one_mask_expanded_to_all():
    mask = torch.tensor([True, False, True, True])
    values = torch.arange(40.0).view(5, 4, 2)
    for form in (mask.expand(5, 4), torch.ones(5, 1, dtype=torch.bool).expand(5, 4)):
        assert form.stride(0) == 0 or form.stride(1) == 0
        assert_bits(
            weighted_fusion(values, values[..., 0], form),
            weighted_fusion(values, values[..., 0], form.contiguous()),
        )
        assert_bits(
            attention_fusion(values, values, values, form),
            attention_fusion(values, values, values, form.contiguous()),
        )


def test_expanded_ids_and_weights():
    """One item, again and again, at one weight."""
    table = torch.arange(12.0).view(4, 3).requires_grad_()
    ids, weights = torch.tensor([2]).expand(6), torch.tensor([0.5]).expand(6).requires_grad_()
    offsets = torch.tensor([0, 2, 6])
    found = history_fusion(table, offsets, weights=weights, ids=ids)
    expected = torch.stack([table[2], 2 * table[2]])
    torch.testing.assert_close(found, expected)
    assert torch.autograd.grad(found.sum(), table)[0][2].tolist() == [3.0] * 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inputs_are_left_alone(case):
    leaves = case.leaves(torch.float32)
    tensors = {name: part for name, part in case.fixed.items() if isinstance(part, torch.Tensor)}
    copies = {name: part.clone() for name, part in {**leaves, **tensors}.items()}
    run(case, leaves)
    for name, part in {**leaves, **tensors}.items():
        assert_bits(part, copies[name])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lazy_negation(case):
    """A view whose numbers are stored with the other sign, as ``conj().imag`` gives."""
    leaves = {
        name: torch.complex(leaf, leaf).conj().imag
        for name, leaf in case.leaves(torch.float32).items()
    }
    assert all(leaf.is_neg() for leaf in leaves.values())
    expected = case(**{name: leaf.resolve_neg() for name, leaf in leaves.items()})
    assert_near(case(**leaves), expected, torch.float32)


def test_views_of_one_tensor():
    """Query, key and value as slices of one projection, whose gradients land in one."""
    packed = torch.randn(
        5, 4, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    fused = attention_fusion(*packed.chunk(3, -1), num_heads=2)
    parts = [part.contiguous() for part in packed.chunk(3, -1)]
    expected = attention_fusion(*parts, num_heads=2)
    torch.testing.assert_close(fused, expected)
    found, truth = (torch.autograd.grad(x.square().sum(), packed)[0] for x in (fused, expected))
    torch.testing.assert_close(found, truth)


@given(
    case=st.sampled_from(CASES),
    dtype=st.sampled_from(DTYPES),
    layouts=st.tuples(*[st.sampled_from(ALL)] * 6),
)
def test_any_mixture(case, dtype, layouts):
    leaves = {
        name: laid_out(layout, leaf)
        for layout, (name, leaf) in zip(layouts, case.leaves(dtype).items(), strict=False)
    }
    grads = [
        layout(grad) for layout, grad in zip(layouts[4:], cotangents(case(**leaves)), strict=False)
    ]
    expected = run(case, contiguous(leaves), [grad.contiguous() for grad in grads])
    assert_near(run(case, leaves, grads), expected, dtype)


def test_strides_past_32_bits():
    """Two rows 2^31 + 8 numbers apart: virtual memory that nothing touches."""
    apart = 2**31 + 8
    storage = torch.empty(apart + 8, dtype=torch.float16)
    table = storage.as_strided((2, 4), (apart, 1))
    table.copy_(torch.tensor([[1.0, 0, 2, 0], [3.0, 4, 0, 0]]))
    plain, offsets = table.contiguous(), torch.tensor([0, 2, 3])
    ids = torch.tensor([0, 1, 1])
    for function in (
        lambda x: history_fusion(x, offsets, ids=ids),
        lambda x: weighted_fusion(x.unsqueeze(1), torch.zeros(1)),
        lambda x: weighted_fusion(x.unsqueeze(0), torch.zeros(2)),
        lambda x: attention_fusion(x.unsqueeze(0), x.unsqueeze(0), x.unsqueeze(0)),
        lambda x: attention_fusion(plain[:1], x.unsqueeze(1), x.unsqueeze(1)),
    ):
        torch.testing.assert_close(function(table), function(plain))
