"""Search in a prepared catalogue: its panels are read once, in 4, 2 or 1 bytes an entry."""

from __future__ import annotations

from typing import Any

import torch
from comparison import bounds
from comparison.cases import (
    FAISS,
    FORWARD,
    USEARCH,
    Call,
    Case,
    Suite,
    doubling,
    gaussians,
)
from comparison.memory import require_matrices
from comparison.peers import search_of
from torch import Tensor

from fusionops.catalog import Catalog

K = 20
KINDS = ("float32", "bfloat16", "int8")
PREPARED = "prepared eager"


def setup(case: Case) -> Call:
    """The call of one contender; whatever it prepares is prepared here."""
    users, items, features = case.shape
    user, item = gaussians((users, features), (items, features))
    if case.contender in (FAISS, USEARCH):
        return search_of(case.contender, user, item, K)
    if case.contender == PREPARED:
        require_matrices(case, users * items)
        return _prepared(user, torch.nn.functional.normalize(item, dim=-1))
    catalog = Catalog.build(item.numpy(), dtype=case.contender)
    queries = user.numpy()

    def search() -> tuple[Tensor, ...]:
        scores, ids = catalog.search(queries, K)
        return torch.from_numpy(scores), torch.from_numpy(ids)

    return search


def _prepared(user: Tensor, item: Tensor) -> Call:
    def search() -> tuple[Tensor, ...]:
        with torch.no_grad():
            scores, indices = torch.topk(user @ item.mT, K)
        return scores, indices

    return search


SUITE = Suite(
    title=(
        f"k = {K}, diagonal, all lists exact; prepared eager: a product over items normalised "
        "before, then torch.topk; faiss: IndexFlatIP; usearch: exact search"
    ),
    contenders=(*KINDS, PREPARED, FAISS, USEARCH),
    ours=len(KINDS),
    setup=setup,
    work=lambda case: bounds.catalog(*case.shape, K, _kind(case)),
    shapes=(
        (256, 10_000, 64),
        (1024, 100_000, 64),
        (256, 100_000, 128),
        (16, 1_000_000, 128),
        (1, 1_000_000, 128),
    ),
    growth=doubling(64, 64),
    directions=(FORWARD,),
)


def _kind(case: Case) -> str:
    return case.contender if case.contender in KINDS else KINDS[0]


def bench_catalog(contest: Any) -> None:
    contest()
