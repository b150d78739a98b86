"""FusionMatrix: one normalisation for scores, results and lists."""

from __future__ import annotations

import pytest
import torch
from support import NORMALIZATIONS, normal

import fusionops
from fusionops.nn import FusionMatrix


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_is_the_operators(normalization):
    norm = {"normalization": normalization, "power": 0.7, "ridge": 0.1, "eps": 0.2}
    user, item, values = normal(5, 4), normal(9, 4, seed=1), normal(9, 3, seed=2)
    module = FusionMatrix(**norm)
    assert torch.equal(module(user, item), fusionops.fusion_matrix(user, item, **norm))
    recommended = fusionops.fusion_recommend(user, item, values, **norm)
    assert torch.equal(module.recommend(user, item, values), recommended)
    bias = normal(9, seed=3)
    found = module.topk(user, item, 3, item_bias=bias)
    expected = fusionops.fusion_topk(user, item, 3, item_bias=bias, **norm)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_representation():
    assert repr(FusionMatrix(power=1.0)) == (
        "FusionMatrix(normalization='diagonal', power=1.0, ridge=0.0, eps=0.0)"
    )
