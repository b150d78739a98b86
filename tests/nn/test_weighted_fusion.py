"""WeightedFusion: its gates."""

from __future__ import annotations

import torch
from nn_support import presence
from support import normal

from fusionops.nn import WeightedFusion


def test_gates_start_equal():
    tokens, mask = normal(6, 3, 8), presence(6, 3)
    count = mask.sum(1, keepdim=True).clamp_min(1)
    expected = (tokens * mask.unsqueeze(-1)).sum(1) / count
    torch.testing.assert_close(WeightedFusion(3)(tokens, mask), expected)


def test_gates_from_content():
    module, tokens, mask = (
        WeightedFusion(3, 8, dtype=torch.float64),
        normal(6, 3, 8),
        presence(6, 3),
    )
    tokens = tokens.double()
    torch.nn.init.normal_(module.bias)
    logits = torch.nn.functional.linear(tokens, module.weight.unsqueeze(0)).squeeze(-1)
    gates = (logits + module.bias).masked_fill(~mask, -torch.inf).softmax(1).nan_to_num(0)
    torch.testing.assert_close(module(tokens, mask), (gates.unsqueeze(-1) * tokens).sum(1))


def test_initial_weight_is_that_of_a_linear_layer():
    torch.manual_seed(5)
    linear = torch.nn.Linear(8, 1, bias=False)
    torch.manual_seed(5)
    assert torch.equal(WeightedFusion(3, 8).weight, linear.weight[0])


def test_mask_for_all_entities():
    module, tokens = WeightedFusion(3, 8), normal(6, 3, 8)
    mask = torch.tensor([True, False, True])
    torch.testing.assert_close(module(tokens, mask), module(tokens, mask.expand(6, 3)))
