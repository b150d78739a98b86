"""Attention among a few tokens, or many, and pooling by one query that all entities share."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from comparison import bounds
from comparison.cases import (
    BACKWARD,
    COMPILE,
    EAGER,
    OURS,
    Call,
    Case,
    Suite,
    call_of,
    few_entities,
    gaussians,
)
from comparison.memory import require_matrices
from torch import Tensor

from fusionops import attention_fusion, reference

SDPA = "sdpa"
SOFTMAX_SUM, TWO_MATMULS = "softmax-sum", "two matmuls"


def _ours(heads: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    fused = attention_fusion(query, key, value, num_heads=heads)
    assert isinstance(fused, Tensor)
    return fused


def _eager(heads: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scale = (key.shape[2] // heads) ** -0.5
    return reference.attention_fusion(query, key, value, num_heads=heads, scale=scale)[0]


def _sdpa(heads: int, *sides: Tensor) -> Tensor:
    """As modules of attention call it: heads split off and put together again."""
    split = (side.unflatten(2, (heads, -1)).transpose(1, 2) for side in sides)
    fused = torch.nn.functional.scaled_dot_product_attention(*split)
    return fused.transpose(1, 2).flatten(2)


SELF: dict[str, Any] = {OURS: _ours, EAGER: _eager, COMPILE: _eager, SDPA: _sdpa}


def among_tokens(case: Case) -> Call:
    """The call of one contender."""
    entities, tokens, features, heads = case.shape
    if case.contender in (EAGER, COMPILE):
        require_matrices(case, entities * heads * tokens**2)
    sides = [(entities, tokens, features)] * (4 if case.direction == BACKWARD else 3)
    query, key, value, *upstream = gaussians(*sides)
    function = partial(SELF[case.contender], heads)
    return call_of(case, function, (query, key, value), *upstream)


def _pooled(attention: Any, tokens: Tensor, query: Tensor) -> Tensor:
    shared = (
        query.expand(len(tokens), 1, len(query)) if attention is _sdpa else query.view(1, 1, -1)
    )
    fused: Tensor = attention(1, shared, tokens, tokens)
    return fused.squeeze(1)


def softmax_sum(tokens: Tensor, query: Tensor) -> Tensor:
    """What is written by hand most often."""
    weights = ((tokens * query).sum(-1) * query.shape[0] ** -0.5).softmax(-1)
    return (weights.unsqueeze(-1) * tokens).sum(1)


def two_matmuls(tokens: Tensor, query: Tensor) -> Tensor:
    """What is written by those who know that products are faster than sums."""
    weights = ((tokens @ query) * query.shape[0] ** -0.5).softmax(-1)
    return (weights.unsqueeze(1) @ tokens).squeeze(1)


POOLED: dict[str, Any] = {
    **{contender: partial(_pooled, attention) for contender, attention in SELF.items()},
    SOFTMAX_SUM: softmax_sum,
    TWO_MATMULS: two_matmuls,
}


def pooling(case: Case) -> Call:
    """The call of one contender."""
    entities, tokens, features = case.shape
    sizes = [(entities, tokens, features), (features,)]
    if case.direction == BACKWARD:
        sizes.append((entities, features))
    values, query, *upstream = gaussians(*sizes)
    return call_of(case, POOLED[case.contender], (values, query), *upstream)


SUITES = {
    "self": Suite(
        title=(
            "each of M tokens attends to all, in H heads; sdpa: "
            "torch.nn.functional.scaled_dot_product_attention over views of the heads"
        ),
        contenders=tuple(SELF),
        setup=among_tokens,
        work=lambda case: bounds.attention_fusion(*case.shape, case.direction == BACKWARD),
        axes=("B", "M", "D", "H"),
        shapes=((8192, 4, 128, 4), (65_536, 4, 64, 1), (32, 512, 64, 1), (4, 4096, 64, 1)),
        growth=tuple((256, tokens, 64, 1) for tokens in (4, 8, 16, 32, 64, 128, 256, 512)),
        grows="M",
        gpu_shapes=((131_072, 4, 128, 4), (65_536, 16, 64, 4), (64, 1024, 64, 1)),
        small=few_entities,
    ),
    "pooled": Suite(
        title=(
            "one query for all entities, their tokens both keys and values; softmax-sum and two "
            "matmuls: the same by hand; sdpa: torch.nn.functional.scaled_dot_product_attention"
        ),
        contenders=tuple(POOLED),
        setup=pooling,
        work=lambda case: bounds.attention_pooling(*case.shape, case.direction == BACKWARD),
        axes=("B", "M", "D"),
        shapes=((8192, 8, 256), (65_536, 4, 64)),
        growth=tuple((entities, 8, 256) for entities in (2048, 4096, 8192, 16_384, 32_768)),
        grows="B",
        gpu_shapes=((131_072, 8, 256),),
        small=few_entities,
    ),
}


def bench_attention_fusion(contest: Any) -> None:
    contest()
