"""DeepFusion against ``torch.nn.TransformerEncoderLayer``."""

from __future__ import annotations

import pytest
import torch
from nn_support import presence
from support import normal
from torch.nn.functional import layer_norm

from fusionops.nn import DeepFusion


def theirs_and_ours(**options):
    torch.manual_seed(0)
    theirs = torch.nn.TransformerEncoderLayer(
        8, 2, 20, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    for parameter in theirs.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    ours = DeepFusion(8, 2, 20, dtype=torch.float64, **options)
    ours.load_state_dict(theirs.state_dict(), strict=not options)
    return theirs, ours


def inputs():
    mask = presence(7, 4)
    mask[:, 0] = True
    return normal(7, 4, 8, dtype=torch.float64), mask


def test_is_a_transformer_encoder_layer():
    theirs, ours = theirs_and_ours()
    tokens, mask = inputs()
    fused, expected = ours(tokens, mask), theirs(tokens, src_key_padding_mask=~mask)
    torch.testing.assert_close(fused[mask], expected[mask], rtol=1e-12, atol=1e-12)
    assert not fused[~mask].any()


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_pooling(pooling):
    theirs, ours = theirs_and_ours(pooling=pooling)
    tokens, mask = inputs()
    fused = theirs(tokens, src_key_padding_mask=~mask)
    normed = layer_norm(fused, (8,), ours.norm3.weight, ours.norm3.bias)
    if pooling == "mean":
        expected = (normed * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    else:
        expected = ours.pool(normed, mask)
    torch.testing.assert_close(ours(tokens, mask), expected, rtol=1e-12, atol=1e-12)


def test_initial_values_are_those_of_a_transformer_encoder_layer():
    torch.manual_seed(5)
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 32, norm_first=True).state_dict()
    torch.manual_seed(5)
    ours = DeepFusion(8, 2).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_without_biases():
    assert not [name for name in DeepFusion(8, 2, bias=False).state_dict() if "bias" in name]


@pytest.mark.parametrize("options", [{}, {"pooling": "mean"}, {"pooling": "attention"}])
def test_what_is_made_again_is_the_same_to_the_bit(options):
    torch.manual_seed(0)
    module = DeepFusion(8, 2, dropout=0.3, **options)
    tokens, mask = normal(7, 4, 8), presence(7, 4)
    found = []
    for recompute in (False, True):
        torch.manual_seed(1)
        leaf = tokens.clone().requires_grad_()
        fused = module(leaf, mask, recompute=recompute)
        wanted = [leaf, *module.parameters()]
        gradients = torch.autograd.grad(fused.square().sum(), wanted, allow_unused=True)
        found.append([fused, *(part for part in gradients if part is not None)])
    assert len(found[0]) == len(found[1]) == len(wanted) + 1
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_less_is_kept_where_it_is_made_again():
    module, sizes = DeepFusion(8, 2), []
    for recompute in (False, True):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, kept=kept: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            module(normal(7, 4, 8), None, recompute=recompute)
        sizes.append(sum(kept))
    assert sizes[1] < sizes[0] / 3
