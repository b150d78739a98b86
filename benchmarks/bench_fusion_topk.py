"""``top_k(F)``: U P D multiply-adds, and memory of O(U k) where the scores are not kept."""

from __future__ import annotations

from typing import Any

import torch
from comparison.cases import (
    BACKWARD,
    COMPILE,
    EAGER,
    OURS,
    PEER,
    Call,
    Case,
    UnavailableError,
    call_of,
    gaussians,
)
from comparison.memory import require_matrices
from torch import Tensor

from fusionops import fusion_topk, reference

K = 20
TITLE = f"k = {K}, diagonal; peer: faiss IndexFlatIP, its index of normalised items built before"


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
        require_matrices(case)
    user, item = gaussians((users, features), (items, features))
    if case.contender == PEER:
        return _faiss(case, user, item)
    # Ones, so that neighbours which swapped places by rounding still get equal gradients.
    upstream = torch.ones(users, K) if case.direction == BACKWARD else None
    return call_of(case, FUNCTIONS[case.contender], (user, item), upstream)


def _faiss(case: Case, user: Tensor, item: Tensor) -> Call:
    if case.direction == BACKWARD:
        raise UnavailableError("faiss has no backward pass")
    try:
        import faiss
    except ImportError as error:
        raise UnavailableError(f"faiss cannot be imported: {error}") from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(item.shape[1])
    index.add(torch.nn.functional.normalize(item, dim=-1).numpy())
    queries = user.numpy()

    def search() -> tuple[Tensor, ...]:
        scores, indices = index.search(queries, K)
        return torch.from_numpy(scores), torch.from_numpy(indices)

    return search


def bench_fusion_topk(contest: Any, case: Case) -> None:
    # A swap at the k-th place by rounding sends a row's gradient to another item.
    contest(setup, case, title=TITLE, stray_rows=0.01 if case.direction == BACKWARD else 0.0)
