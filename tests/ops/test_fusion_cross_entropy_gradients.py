"""Gradients of fusion_cross_entropy against float64 autograd, in every dtype and reduction."""

from __future__ import annotations

import pytest
import torch
from loss_support import assert_loss_gradients, cross_entropy, gradients, targets
from support import (
    DTYPES,
    NORMALIZATIONS,
    accumulation,
    assert_bits,
    inputs,
    name_of,
    normal,
    random_lists,
)

from fusionops import fusion_cross_entropy

REDUCTIONS = ["none", "sum", "mean"]


def leaves_of(shape, dtype, names=("user", "item", "scale", "item_bias")):
    user, item = inputs(shape, dtype)
    everything = {
        "user": user,
        "item": item,
        "scale": torch.tensor(1.3, dtype=accumulation(dtype)),
        "item_bias": normal(shape[1], dtype=accumulation(dtype), seed=3),
    }
    return {name: everything[name] for name in names}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1),
        (7, 31, 1),
        (31, 7, 127),
        (127, 1, 7),
        (127, 127, 31),
        (5, 129, 513),
        (7, 9001, 7),
        (130, 4500, 3),
    ],
    ids=name_of,
)
def test_gradients(shape, dtype, normalization):
    """Of every input, for an arbitrary gradient at every row."""
    leaves = leaves_of(shape, dtype)
    options = {
        "target": targets(*shape[:2]),
        "normalization": normalization,
        "reduction": "none",
    }
    grad = normal(shape[0], dtype=accumulation(dtype), seed=5)
    assert_loss_gradients(
        gradients(lambda **s: fusion_cross_entropy(**s, **options), leaves, grad),
        lambda **s: cross_entropy(**s, **options),
        leaves,
        grad,
        arrives=float(grad.norm()),
        normalization=normalization,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("shape", [(31, 127, 37), (6, 5000, 19)], ids=name_of)
def test_gradients_with_everything(shape, dtype, reduction):
    users, items, _ = shape
    leaves = leaves_of(shape, dtype)
    target = targets(users, items)
    target[::5] = 3
    options = {
        "target": target,
        "exclude": random_lists(users, items, items - 1, seed=6),
        "label_smoothing": 0.2,
        "ignore_index": 3,
        "reduction": reduction,
    }
    grad = normal(users, dtype=accumulation(dtype), seed=5)
    grad = grad if reduction == "none" else grad[0]
    terms = {"none": 1, "sum": users**0.5, "mean": users**-0.5}[reduction]
    assert_loss_gradients(
        gradients(lambda **s: fusion_cross_entropy(**s, **options), leaves, grad),
        lambda **s: cross_entropy(**s, **options),
        leaves,
        grad,
        arrives=terms * float(grad.norm()),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=name_of)
def test_gradients_of_scale_and_bias_have_their_dtype(dtype):
    user, item = inputs((7, 40, 5), dtype)
    for kind in (torch.float32, dtype):
        scale = torch.tensor(2.0, dtype=kind, requires_grad=True)
        bias = torch.zeros(40, dtype=kind, requires_grad=True)
        loss = fusion_cross_entropy(user, item, targets(7, 40), scale=scale, item_bias=bias)
        assert loss.dtype == torch.float32
        loss.backward()
        assert (scale.grad.dtype, bias.grad.dtype) == (kind, kind)
        assert scale.grad.shape == ()
        assert float(scale.grad.abs()) > 0
        assert float(bias.grad.float().sum().abs()) < 0.01 < float(bias.grad.abs().max())


@pytest.mark.parametrize("arrives", [torch.inf, torch.nan, 0.0])
def test_gradient_that_arrives_stays_in_its_row(arrives):
    user, item = (side.requires_grad_() for side in inputs((9, 40, 5), torch.float32))
    losses = fusion_cross_entropy(user, item, targets(9, 40), reduction="none")
    grad = torch.ones(9)
    expected = torch.autograd.grad(losses, user, grad, retain_graph=True)[0]
    grad[4] = arrives
    found = torch.autograd.grad(losses, user, grad)[0]
    others = torch.arange(9) != 4
    assert_bits(found[others], expected[others])
    assert not (found[4] if arrives == 0 else found[4].isfinite()).any()
