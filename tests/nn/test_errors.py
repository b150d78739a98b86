"""Errors name the argument, what came and what was expected."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from nn_support import CASES
from torch import nn

from fusionops.nn import (
    AttentionFusion,
    BidirectionalFusion,
    DeepFusion,
    FusionLoss,
    FusionMatrix,
    HistoryFusion,
    WeightedFusion,
)


def sparse_table():
    return nn.Embedding(5, 8, sparse=True)


def bounded_table():
    return nn.Embedding(5, 8, max_norm=1.0)


CONSTRUCTORS = [
    (lambda: FusionMatrix(normalization="rows"), ValueError, "normalization: expected one of"),
    (lambda: FusionMatrix(eps="small"), TypeError, "eps: expected a number, got str"),
    (lambda: WeightedFusion(0), ValueError, "num_modalities: expected at least 1, got 0"),
    (lambda: WeightedFusion(3, 8.0), TypeError, "dim: expected an int, got float"),
    (lambda: AttentionFusion("8"), TypeError, "dim: expected an int, got str"),
    (lambda: AttentionFusion(8, 3), ValueError, "num_heads: expected a divisor of dim (8), got 3"),
    (lambda: AttentionFusion(8, num_queries=0), ValueError, "num_queries: expected at least 1"),
    (lambda: AttentionFusion(8, dropout=1.5), ValueError, "dropout: expected a number in [0, 1]"),
    (lambda: AttentionFusion(8, dropout=None), TypeError, "dropout: expected a number, got None"),
    (lambda: AttentionFusion(8, bias=1), TypeError, "bias: expected a bool, got int"),
    (lambda: BidirectionalFusion(-1), ValueError, "dim: expected at least 1, got -1"),
    (lambda: BidirectionalFusion(8, project="no"), TypeError, "project: expected a bool, got str"),
    (lambda: BidirectionalFusion(8, bias=None), TypeError, "bias: expected a bool, got NoneType"),
    (
        lambda: HistoryFusion(8, "sum"),
        ValueError,
        "mode: expected one of mean, weighted, attention, got 'sum'",
    ),
    (
        lambda: HistoryFusion(8, learned_query=True),
        ValueError,
        "learned_query: expected False for mode 'mean', got True",
    ),
    (lambda: HistoryFusion(8, num_embeddings=0), ValueError, "num_embeddings: expected at least 1"),
    (
        lambda: HistoryFusion(8, num_embeddings=5, embedding=nn.Embedding(5, 8)),
        ValueError,
        "embedding: expected None together with num_embeddings, got both",
    ),
    (
        lambda: HistoryFusion(8, embedding=torch.zeros(5, 8)),
        TypeError,
        "embedding: expected a torch.nn.Embedding or Parameter, got Tensor",
    ),
    (
        lambda: HistoryFusion(8, embedding=nn.Parameter(torch.zeros(5))),
        ValueError,
        "embedding: expected 2 dimensions, got shape [5]",
    ),
    (
        lambda: HistoryFusion(8, embedding=nn.Embedding(5, 7)),
        ValueError,
        "embedding: expected rows of width 8, got 7",
    ),
    (lambda: HistoryFusion(8, embedding=sparse_table()), ValueError, "one without sparse"),
    (lambda: HistoryFusion(8, embedding=bounded_table()), ValueError, "one without max_norm"),
    (lambda: DeepFusion(8, 3), ValueError, "num_heads: expected a divisor of dim (8), got 3"),
    (lambda: DeepFusion(8, 2, 0), ValueError, "hidden_dim: expected at least 1, got 0"),
    (lambda: DeepFusion(8, 2, dropout=-1), ValueError, "dropout: expected a finite number of at"),
    (
        lambda: DeepFusion(8, 2, pooling="max"),
        ValueError,
        "pooling: expected one of mean, attention, got 'max'",
    ),
    (lambda: DeepFusion(8, 2, eps=0), ValueError, "eps: expected a number above 0, got 0"),
    (lambda: FusionLoss("hinge"), ValueError, "kind: expected one of cross_entropy, contrastive"),
    (lambda: FusionLoss(scale=0.0), ValueError, "scale: expected a number in (0, max_scale = 100]"),
    (lambda: FusionLoss(scale=200), ValueError, "scale: expected a number in (0, max_scale = 100]"),
    (lambda: FusionLoss(learnable="yes"), TypeError, "learnable: expected a bool, got str"),
    (lambda: FusionLoss(label_smoothing=2.0), ValueError, "label_smoothing: expected a number in"),
    (lambda: FusionLoss(reduction="max"), ValueError, "reduction: expected one of mean, sum, none"),
    (
        lambda: FusionLoss("contrastive", reduction="sum"),
        ValueError,
        "reduction: expected 'mean' for kind 'contrastive', got 'sum'",
    ),
    (
        lambda: FusionLoss("contrastive", label_smoothing=0.1),
        ValueError,
        "label_smoothing: expected 0.0 for kind 'contrastive', got 0.1",
    ),
    (
        lambda: FusionLoss("contrastive", ignore_index=-1),
        ValueError,
        "ignore_index: expected -100 for kind 'contrastive', got -1",
    ),
]


@pytest.mark.parametrize(("build", "error", "message"), CONSTRUCTORS)
def test_constructors(build, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build()


# The case, the argument of the call, what it becomes, and the error.
CALLS = [
    ("weighted_global", "tokens", torch.zeros(6, 3), ValueError, "values: expected 3 dimensions"),
    ("weighted_global", "mask", torch.ones(6, 3), TypeError, "mask: expected a bool tensor"),
    ("weighted_content", "tokens", torch.zeros(6, 3, 7), ValueError, "expected shape [B, M, 8]"),
    ("weighted_content", "tokens", torch.zeros(6, 3, 8).int(), TypeError, "tokens: expected float"),
    ("weighted_content", "tokens", [0.0], TypeError, "tokens: expected a torch.Tensor, got list"),
    ("attention_self", "tokens", torch.zeros(6, 8), ValueError, "tokens: expected shape [B, M, 8]"),
    ("attention_self", "mask", torch.ones(2).bool(), ValueError, "mask: expected shape [3]"),
    ("attention_self", "return_weights", 1, TypeError, "return_weights: expected a bool, got int"),
    (
        "attention_self",
        "context_mask",
        torch.ones(3).bool(),
        ValueError,
        "context_mask: expected None without a context, got a mask",
    ),
    ("attention_cross", "context", torch.zeros(6, 5, 7), ValueError, "context: expected shape"),
    (
        "attention_pooled",
        "context",
        torch.zeros(6, 3, 8),
        ValueError,
        "context: expected None with learned queries, got a tensor",
    ),
    ("bidirectional", "item", torch.zeros(6, 5, 7), ValueError, "item: expected shape [B, M, 8]"),
    ("bidirectional", "user_mask", torch.zeros(6, 4), TypeError, "user_mask: expected a bool"),
    ("history_mean", "history", torch.zeros(5), TypeError, "ids: expected an integer tensor"),
    ("history_mean", "offsets", None, TypeError, "offsets: expected an integer tensor"),
    (
        "history_mean",
        "query",
        torch.zeros(6, 8),
        ValueError,
        "query: expected None for mode 'mean', got Tensor",
    ),
    (
        "history_attention",
        "query",
        None,
        ValueError,
        "query: expected a tensor for mode 'attention', got NoneType",
    ),
    (
        "history_learned",
        "query",
        torch.zeros(6, 8),
        ValueError,
        "query: expected None for mode 'attention' with a learned query, got Tensor",
    ),
    ("history_learned", "offsets", None, TypeError, "offsets: expected an integer tensor"),
    (
        "history_weighted",
        "weights",
        None,
        ValueError,
        "weights: expected a tensor for mode 'weighted', got NoneType",
    ),
    ("deep", "tokens", torch.zeros(6, 3, 7), ValueError, "tokens: expected shape [B, M, 8]"),
    ("deep", "mask", torch.zeros(6, 3), TypeError, "mask: expected a bool tensor"),
    ("loss_cross_entropy", "target", None, TypeError, "target: expected an integer tensor"),
    (
        "loss_cross_entropy",
        "ids",
        torch.arange(6),
        ValueError,
        "ids: expected None for kind 'cross_entropy', got Tensor",
    ),
    (
        "loss_contrastive",
        "item_bias",
        torch.zeros(6),
        ValueError,
        "item_bias: expected None for kind 'contrastive', got Tensor",
    ),
    (
        "loss_contrastive",
        "exclude",
        ([0], []),
        ValueError,
        "exclude: expected None for kind 'contrastive', got tuple",
    ),
]


@pytest.mark.parametrize(("name", "argument", "value", "error", "message"), CALLS)
def test_calls(name, argument, value, error, message):
    inputs = CASES[name].inputs(6, torch.float32)
    with pytest.raises(error, match=re.escape(message)):
        CASES[name].module()(**{**inputs, argument: value})


def test_wrong_number_of_modalities():
    message = "tokens: expected 3 modalities, got 4"
    with pytest.raises(ValueError, match=message):
        WeightedFusion(3, 8)(torch.zeros(2, 4, 8))


def test_numbers_of_numpy():
    module = AttentionFusion(np.int64(8), np.int32(2), dropout=np.float32(0.5))
    assert (module.dim, module.num_heads, module.dropout) == (8, 2, 0.5)
