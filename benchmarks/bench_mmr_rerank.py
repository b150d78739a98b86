"""Maximal marginal relevance: k choices one after the other, O(k C D) for a user at most."""

from __future__ import annotations

from typing import Any

import torch
from comparison import bounds
from comparison.cases import (
    COMPILE,
    EAGER,
    FORWARD,
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

from fusionops import mmr_rerank, reference

MATRIX = "cosine matrix"


def ours(scores: Tensor, vectors: Tensor, k: int) -> Tensor:
    return mmr_rerank(scores, vectors, k)


def eager(scores: Tensor, vectors: Tensor, k: int) -> Tensor:
    return reference.mmr_rerank(scores, vectors, k, trade_off=0.5)


def matrix(scores: Tensor, vectors: Tensor, k: int) -> Tensor:
    """All cosines by one product, so that a choice reads a row of them."""
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    cosines, relevance = unit @ unit.mT, 0.5 * scores
    gain, rows = relevance, torch.arange(len(scores), device=scores.device)
    closest, chosen = torch.full_like(scores, -1.0), []
    for _ in range(k):
        best = gain.argmax(1)
        chosen.append(best)
        relevance = relevance.index_put((rows, best), scores.new_full((), -torch.inf))
        closest = torch.maximum(closest, cosines[rows, best])
        gain = relevance - 0.5 * closest
    return torch.stack(chosen, 1)


FUNCTIONS: dict[str, Any] = {OURS: ours, EAGER: eager, COMPILE: eager, MATRIX: matrix}


def setup(case: Case) -> Call:
    """The call of one contender."""
    users, candidates, features, k = case.shape
    if case.contender == MATRIX:
        require_matrices(case, users * candidates**2)
    scores, vectors = gaussians((users, candidates), (users, candidates, features))
    function = FUNCTIONS[case.contender]

    def call(scores: Tensor, vectors: Tensor) -> Tensor:
        chosen: Tensor = function(scores, vectors, k)
        return chosen

    return call_of(case, call, (scores, vectors))


SUITE = Suite(
    title=(
        "k of C candidates in random order, trade_off 0.5; eager: a product with the last choice "
        "each time; cosine matrix: all products at once, then lookups"
    ),
    contenders=tuple(FUNCTIONS),
    setup=setup,
    work=lambda case: bounds.mmr_rerank(*case.shape),
    axes=("U", "C", "D", "k"),
    shapes=((1024, 200, 64, 20), (64, 1000, 128, 20)),
    growth=tuple((256, candidates, 64, 20) for candidates in (100, 200, 400, 800, 1600)),
    grows="C",
    small=few_entities,
    directions=(FORWARD,),
    gpu_shapes=((8192, 200, 64, 20),),
)


def bench_mmr_rerank(contest: Any) -> None:
    contest()
