"""FusionLoss: the operators' losses and the learned scale."""

from __future__ import annotations

import math

import pytest
import torch
from nn_support import CASES
from support import normal, random_lists

import fusionops
from fusionops.nn import FusionLoss

NORM = {"normalization": "cosine", "eps": 0.1}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_is_the_operator(reduction):
    inputs = CASES["loss_cross_entropy"].inputs(6, torch.float32)
    exclude = random_lists(6, len(inputs["item"]), 3)
    inputs["target"][2] = 1
    options = {"label_smoothing": 0.2, "ignore_index": 1, "reduction": reduction, **NORM}
    loss = FusionLoss(scale=7.0, **options)(**inputs, exclude=exclude)
    scale = torch.tensor(7.0).log().exp()
    expected = fusionops.fusion_cross_entropy(**inputs, scale=scale, exclude=exclude, **options)
    torch.testing.assert_close(loss, expected)


def test_contrastive_is_the_operator():
    inputs = CASES["loss_contrastive"].inputs(6, torch.float32)
    loss = FusionLoss("contrastive", scale=7.0, learnable=False, **NORM)(**inputs)
    assert torch.equal(loss, fusionops.fusion_contrastive(**inputs, scale=7.0, **NORM))


def test_scale():
    learned = FusionLoss()
    assert learned.log_scale.shape == (1,)
    assert learned.scale.shape == ()
    assert learned.scale.item() == pytest.approx(1 / 0.07)
    fixed = FusionLoss(scale=3.0, learnable=False)
    assert fixed.scale == 3.0
    assert not fixed.state_dict()
    half = FusionLoss(dtype=torch.bfloat16)
    assert half.scale.dtype == torch.float32
    assert FusionLoss(dtype=torch.float64).scale.dtype == torch.float64


@pytest.mark.parametrize("kind", ["cross_entropy", "contrastive"])
def test_gradient_of_the_scale(kind):
    inputs = CASES[f"loss_{kind}"].inputs(6, torch.float64)
    loss = FusionLoss(kind, dtype=torch.float64, **NORM)

    def function(log_scale):
        return torch.func.functional_call(loss, {"log_scale": log_scale}, (), inputs)

    start = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, start)


@pytest.mark.parametrize(("optimizer", "rate"), [(torch.optim.SGD, 2.0), (torch.optim.Adam, 0.1)])
def test_scale_stops_at_its_bound_and_comes_back(optimizer, rate):
    """Pairs that fit drive the scale up; pairs that do not bring it down again at once."""
    loss = FusionLoss("contrastive", normalization="cosine", scale=50.0, max_scale=60.0)
    trained = optimizer(loss.parameters(), lr=rate)
    eye, scales = torch.eye(4), []
    for step in range(60):
        item = eye + 0.98 if step < 30 else eye.roll(1, 0) + 0.98
        trained.zero_grad()
        loss(eye + 0.98, item).backward()
        trained.step()
        scales.append(loss.scale.item())
    assert max(scales) == pytest.approx(60)
    assert scales[29] == pytest.approx(60)
    assert scales[-1] < 50
    assert loss.log_scale.item() < math.log(60)


def test_correction_for_popularity():
    """With the log of the popularity as bias, scores of nothing predict the popularity."""
    popularity = torch.tensor([0.5, 0.3, 0.2])
    loss = FusionLoss(reduction="none")(
        torch.zeros(3, 2), normal(3, 2), torch.arange(3), item_bias=popularity.log()
    )
    torch.testing.assert_close((-loss).exp(), popularity)
