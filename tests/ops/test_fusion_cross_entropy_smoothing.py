"""Label smoothing where all logits have a large part in common."""

from __future__ import annotations

import math

import pytest
import torch

from fusionops import fusion_cross_entropy


@pytest.mark.parametrize("offset", [-1e30, -1234567.0, 1e4, 1e6])
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
@pytest.mark.parametrize("excluded", [False, True])
def test_equal_logits_have_the_loss_of_a_fair_choice(offset, smoothing, excluded):
    items = 1000
    exclude = (torch.tensor([0, 10, 10]), torch.arange(10)) if excluded else None
    loss = fusion_cross_entropy(
        torch.zeros(2, 4),
        torch.zeros(items, 4),
        torch.tensor([500, 1]),
        item_bias=torch.full((items,), offset),
        exclude=exclude,
        label_smoothing=smoothing,
        reduction="none",
    )
    expected = [math.log(items - 10 if excluded else items), math.log(items)]
    assert loss.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("offset", [1e4, 1e5])
def test_smoothed_losses_are_those_of_torch_on_the_same_logits(offset):
    generator = torch.Generator().manual_seed(3)
    bias = offset + torch.randn(5000, generator=generator)
    target = torch.randint(5000, (7,), generator=generator)
    loss = fusion_cross_entropy(
        torch.zeros(7, 3), torch.zeros(5000, 3), target, item_bias=bias, label_smoothing=0.3
    )
    truth = torch.nn.functional.cross_entropy(
        bias.double().expand(7, -1), target, label_smoothing=0.3
    )
    assert float(loss) == pytest.approx(float(truth), rel=1e-6)
