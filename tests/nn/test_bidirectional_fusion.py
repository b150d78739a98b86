"""BidirectionalFusion against two attentions."""

from __future__ import annotations

import torch
from nn_support import CASES
from torch.nn.functional import scaled_dot_product_attention

from fusionops.nn import BidirectionalFusion


def sides(batch=5):
    inputs = CASES["bidirectional"].inputs(batch, torch.float64)
    user, item = inputs["user"], inputs["item"]
    user_mask, item_mask = inputs["user_mask"].clone(), inputs["item_mask"].clone()
    user_mask[:, 0] = item_mask[:, 0] = True  # where the two calls are defined
    return user, item, user_mask, item_mask


def two_calls(user, item, user_value, item_value, user_mask, item_mask):
    from_item = scaled_dot_product_attention(user, item, item_value, item_mask.unsqueeze(1))
    from_user = scaled_dot_product_attention(item, user, user_value, user_mask.unsqueeze(1))
    return from_item * user_mask.unsqueeze(-1), from_user * item_mask.unsqueeze(-1)


def test_without_projections():
    user, item, user_mask, item_mask = sides()
    module = BidirectionalFusion(8, project=False)
    assert not list(module.parameters())
    found = module(user, item, user_mask=user_mask, item_mask=item_mask)
    expected = two_calls(user, item, user, item, user_mask, item_mask)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_with_projections():
    user, item, user_mask, item_mask = sides()
    module = BidirectionalFusion(8, dtype=torch.float64)
    user_key, user_value = module.user_proj(user).chunk(2, -1)
    item_key, item_value = module.item_proj(item).chunk(2, -1)
    found = module(user, item, user_mask=user_mask, item_mask=item_mask)
    expected = two_calls(user_key, item_key, user_value, item_value, user_mask, item_mask)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_initial_values_are_those_of_linear_layers():
    torch.manual_seed(5)
    layers = [torch.nn.Linear(8, 16) for _ in range(2)]
    torch.manual_seed(5)
    module = BidirectionalFusion(8)
    for ours, theirs in zip((module.user_proj, module.item_proj), layers, strict=True):
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)
