"""AttentionFusion against ``torch.nn.MultiheadAttention``."""

from __future__ import annotations

import pytest
import torch
from nn_support import presence
from support import normal

from fusionops.nn import AttentionFusion


def theirs_and_ours(heads=2, **options):
    """``torch.nn.MultiheadAttention`` with random biases, and ours with its state dict."""
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(
        8, heads, batch_first=True, dtype=torch.float64, bias=options.get("bias", True)
    )
    for parameter in theirs.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    ours = AttentionFusion(8, heads, dtype=torch.float64, **options)
    ours.load_state_dict(theirs.state_dict(), strict="num_queries" not in options)
    return theirs, ours


def some_present(batch, count, seed=0):
    """Where MultiheadAttention is defined: everyone has something."""
    mask = presence(batch, count, seed)
    mask[:, 0] = True
    return mask


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_self_attention(heads, bias):
    theirs, ours = theirs_and_ours(heads, bias=bias)
    tokens, mask = normal(7, 4, 8, dtype=torch.float64), some_present(7, 4)
    fused, weights = ours(tokens, mask, return_weights=True)
    expected, expected_weights = theirs(
        tokens, tokens, tokens, key_padding_mask=~mask, average_attn_weights=False
    )
    torch.testing.assert_close(fused[mask], expected[mask], rtol=1e-12, atol=1e-12)
    assert not fused[~mask].any()
    present = mask[:, None, :, None].double()
    torch.testing.assert_close(weights, expected_weights * present, rtol=1e-12, atol=1e-12)
    assert torch.equal(ours(tokens, mask), fused)


def test_cross_attention():
    """With a full mask of the queries the outputs are the same everywhere."""
    theirs, ours = theirs_and_ours()
    tokens, context = normal(7, 4, 8, dtype=torch.float64), normal(7, 5, 8, dtype=torch.float64)
    mask = some_present(7, 5)
    fused, weights = ours(tokens, context=context, context_mask=mask, return_weights=True)
    expected, expected_weights = theirs(
        tokens, context, context, key_padding_mask=~mask, average_attn_weights=False
    )
    torch.testing.assert_close(fused, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("queries", [1, 3])
def test_pooling(queries, bias):
    """Learned queries, without a projected token, give what projected tokens give."""
    theirs, ours = theirs_and_ours(num_queries=queries, bias=bias)
    tokens, mask = normal(7, 4, 8, dtype=torch.float64), some_present(7, 4)
    query = ours.query.expand(7, queries, 8)
    fused, weights = ours(tokens, mask, return_weights=True)
    expected, expected_weights = theirs(
        query, tokens, tokens, key_padding_mask=~mask, average_attn_weights=False
    )
    assert fused.shape == ((7, 8) if queries == 1 else (7, queries, 8))
    torch.testing.assert_close(fused.view(expected.shape), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours(tokens, mask), fused)


def test_pooling_with_dropout_is_that_of_projected_tokens():
    """The bias of the values is weighted as they are, by what dropout leaves."""
    theirs, ours = theirs_and_ours(num_queries=2)
    ours.dropout = 0.5
    tokens = normal(7, 4, 8, dtype=torch.float64)
    fused, weights = ours(tokens, return_weights=True)
    assert (weights == 0).any()
    value = torch.nn.functional.linear(tokens, theirs.in_proj_weight[16:], theirs.in_proj_bias[16:])
    heads = weights @ value.unflatten(-1, (2, 4)).transpose(1, 2)
    expected = theirs.out_proj(heads.transpose(1, 2).flatten(2))
    torch.testing.assert_close(fused, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_initial_values_are_those_of_multihead_attention(bias):
    torch.manual_seed(5)
    theirs = torch.nn.MultiheadAttention(8, 2, bias=bias).state_dict()
    torch.manual_seed(5)
    ours = AttentionFusion(8, 2, bias=bias)
    for _ in range(2):
        assert ours.state_dict().keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())
        torch.manual_seed(5)
        ours.reset_parameters()


@pytest.mark.parametrize("queries", [None, 1, 2])
def test_nothing_to_attend_to(queries):
    """Zeros, although there are biases: all modalities missing, or none at all."""
    _, ours = theirs_and_ours(num_queries=queries) if queries else theirs_and_ours()
    tokens = normal(2, 4, 8, dtype=torch.float64)
    assert not ours(tokens, torch.tensor([False] * 4)).any()
    assert not ours(tokens[:, :0]).any()
    if queries is None:
        assert not ours(tokens, context=tokens[:, :0]).any()
        assert not ours(tokens, context=tokens, context_mask=torch.tensor([False] * 4)).any()
