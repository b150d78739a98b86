"""Any strides of inputs and incoming gradients give the losses the bits of contiguous ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from loss_support import cases, targets
from support import DTYPES, NORMALIZATIONS, assert_bits, inputs, name_of, normal

from fusionops import fusion_contrastive, fusion_cross_entropy

CASES = cases(users=37, items=131, batch=41)


def vector(layout, x):
    """A layout of matrices for a vector: one row of it, or one column."""
    return layout(torch.stack([x, x], 1))[:, 0]


def laid_out(case, dtype, layout):
    leaves = case.leaves(dtype, features=33)
    for name, leaf in leaves.items():
        if leaf.dim() == 2:
            leaves[name] = layout(leaf)
        elif leaf.dim() == 1:
            leaves[name] = vector(layout, leaf)
    return leaves


def run(case, leaves, grad=None, **norm):
    """The loss and the gradients, with the layouts of the leaves and of `grad` as they are."""
    wanting = {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}
    result = case(**wanting, **norm)
    if grad is None or not result.dim():
        grad = torch.ones_like(result)
    return [result.detach(), *torch.autograd.grad(result, list(wanting.values()), grad)]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


def contiguous(leaves):
    return {name: leaf.contiguous() for name, leaf in leaves.items()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("case", [CASES[1], CASES[5]], ids=str)
def test_inputs(case, dtype, normalization, layout):
    leaves = laid_out(case, dtype, layout)
    norm = {"normalization": normalization}
    assert_same(run(case, leaves, **norm), run(case, contiguous(leaves), **norm))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_incoming_gradients(dtype, layout):
    """Of ``reduction="none"``: strided, and expanded from one number."""
    case = CASES[1]
    leaves = case.leaves(dtype, features=33)
    grad = vector(layout, normal(case.users, dtype=case(**leaves).dtype, seed=5))
    for strided in (grad, grad[:1].expand(case.users)):
        assert_same(run(case, leaves, strided), run(case, leaves, strided.contiguous()))


def test_gradient_of_a_sum_of_the_rows():
    """``.sum().backward()`` brings a gradient expanded from one number; both are the sum."""
    sides = [side.requires_grad_() for side in inputs((37, 131, 33), torch.float32)]
    target = targets(37, 131)
    rows = fusion_cross_entropy(*sides, target, reduction="none")
    found = torch.autograd.grad(rows.sum(), sides, retain_graph=True)
    assert_same(found, torch.autograd.grad(rows, sides, torch.ones(37)))
    total = fusion_cross_entropy(*sides, target, reduction="sum")
    for ours, theirs in zip(torch.autograd.grad(total, sides), found, strict=True):
        torch.testing.assert_close(ours, theirs)
    mean = fusion_cross_entropy(*sides, target)
    for ours, theirs in zip(torch.autograd.grad(mean, sides), found, strict=True):
        torch.testing.assert_close(37 * ours, theirs)


def test_strides_of_targets():
    user, item = inputs((37, 131, 33), torch.float32)
    plain = targets(37, 131)
    for target in (
        torch.stack([plain, plain + 1], 1)[:, 0],
        plain[:1].expand(37),
        plain.repeat(2)[::2],
    ):
        assert not target.is_contiguous()
        assert_bits(
            fusion_cross_entropy(user, item, target),
            fusion_cross_entropy(user, item, target.contiguous()),
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inputs_are_left_alone(case):
    leaves = case.leaves(torch.float32, features=33)
    copies = {name: leaf.clone() for name, leaf in leaves.items()}
    target = case.fixed.get("target", torch.zeros(1)).clone()
    run(case, leaves)
    for name, leaf in leaves.items():
        assert_bits(leaf, copies[name])
    assert_bits(case.fixed.get("target", torch.zeros(1)), target)


@pytest.mark.parametrize("case", [CASES[1], CASES[5]], ids=str)
def test_lazy_negation(case):
    """A view whose numbers are stored with the other sign, as ``conj().imag`` gives."""
    leaves = {
        name: torch.complex(leaf, leaf).conj().imag
        for name, leaf in case.leaves(torch.float32, features=33).items()
    }
    assert leaves["user"].is_neg()
    expected = case(**{name: leaf.resolve_neg() for name, leaf in leaves.items()})
    assert_bits(case(**leaves), expected)


@given(
    case=st.sampled_from(CASES),
    dtype=st.sampled_from(DTYPES),
    normalization=st.sampled_from(NORMALIZATIONS),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 4),
)
def test_any_mixture(case, dtype, normalization, layouts):
    leaves = case.leaves(dtype, features=33)
    for name, layout in zip(("user", "item"), layouts, strict=False):
        leaves[name] = layout(leaves[name])
    if "item_bias" in leaves:
        leaves["item_bias"] = vector(layouts[2], leaves["item_bias"])
    norm = {"normalization": normalization}
    grad = vector(layouts[3], normal(case.users, dtype=case(**leaves, **norm).dtype, seed=5))
    found = run(case, leaves, grad, **norm)
    assert_same(found, run(case, contiguous(leaves), grad.contiguous(), **norm))


def test_row_stride_past_32_bits():
    """Rows of one column, two rows 2^31 + 8 numbers apart: virtual memory that nothing touches."""
    apart = 2**31 + 8
    storage = torch.empty(apart + 8, dtype=torch.float16)
    item = storage.as_strided((2, 4), (apart, 1))
    item.copy_(torch.tensor([[1.0, 0, 0, 0], [3.0, 4, 0, 0]]))
    user = torch.tensor([[1.0, 2, 0, 0], [0.5, 0, 1, 0]], dtype=torch.float16)
    target = torch.tensor([1, 0])
    assert_bits(
        fusion_cross_entropy(user, item, target),
        fusion_cross_entropy(user, item.contiguous(), target),
    )
    assert_bits(fusion_contrastive(user, item), fusion_contrastive(user, item.contiguous()))
