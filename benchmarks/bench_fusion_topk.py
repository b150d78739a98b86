"""``top_k(F)``: U P D multiply-adds, and memory of O(U k) where the scores are not kept."""

from __future__ import annotations

from typing import Any

import torch
from comparison import bounds
from comparison.cases import (
    BACKWARD,
    COMPILE,
    DEFAULT_SHAPES,
    EAGER,
    FAISS,
    OURS,
    USEARCH,
    Call,
    Case,
    Suite,
    UnavailableError,
    call_of,
    doubling,
    gaussians,
)
from comparison.memory import require_matrices
from comparison.peers import search_of
from torch import Tensor

from fusionops import fusion_topk, reference

K = 20


def ours(user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    return fusion_topk(user, item, K)


def eager(user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
    """The reference matrix and ``torch.topk``.

    ``reference.fusion_topk`` sorts whole rows to hold the tie rule, which nobody would do who
    wants speed; a ratio against it would flatter us.
    """
    scores, indices = torch.topk(reference.fusion_matrix(user, item), K)
    return scores, indices


FUNCTIONS: dict[str, Any] = {OURS: ours, EAGER: eager, COMPILE: eager}


def setup(case: Case) -> Call:
    """The call of one contender."""
    users, items, features = case.shape
    if case.contender in (EAGER, COMPILE):
        require_matrices(case, users * items)
    user, item = gaussians((users, features), (items, features))
    if case.contender in (FAISS, USEARCH):
        if case.direction == BACKWARD:
            raise UnavailableError("it has no backward pass")
        return search_of(case.contender, user, item, K)
    # Ones, so that neighbours which swapped places by rounding still get equal gradients.
    upstream = [torch.ones(users, K)] if case.direction == BACKWARD else []
    return call_of(case, FUNCTIONS[case.contender], (user, item), *upstream)


SUITE = Suite(
    title=(
        f"k = {K}, diagonal; faiss: IndexFlatIP, usearch: exact search, both over items that were "
        "normalised and indexed before"
    ),
    contenders=(*FUNCTIONS, FAISS, USEARCH),
    setup=setup,
    work=lambda case: bounds.fusion_topk(*case.shape, K, case.direction == BACKWARD),
    forward_only=DEFAULT_SHAPES[2:],
    growth=doubling(64, 64),
    gpu_shapes=((1024, 1_000_000, 128), (16, 1_000_000, 128)),
    # A swap at the k-th place by rounding sends a row's gradient to another item.
    stray_rows=0.01,
)


def bench_fusion_topk(contest: Any) -> None:
    contest()
