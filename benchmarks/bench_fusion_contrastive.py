"""In-batch InfoNCE, both sides: the scores once forward, three products backward."""

from __future__ import annotations

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
    gaussians,
)
from comparison.memory import require_matrices
from torch import Tensor

from fusionops import fusion_contrastive, reference

TWO_SIDED = "two-sided"


def two_sided(user: Tensor, item: Tensor) -> Tensor:
    """The loss as open_clip writes it: one product, and a cross-entropy along each side."""
    logits = user @ torch.nn.functional.normalize(item, dim=-1).mT
    labels = torch.arange(len(logits), device=logits.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, labels) + cross_entropy(logits.mT, labels)) / 2


FUNCTIONS: dict[str, Any] = {
    OURS: fusion_contrastive,
    EAGER: reference.fusion_contrastive,
    COMPILE: reference.fusion_contrastive,
    TWO_SIDED: two_sided,
}


def setup(case: Case) -> Call:
    """The call of one contender."""
    users, items, features = case.shape
    if case.contender != OURS:
        require_matrices(case, users * items)
    user, item = gaussians((users, features), (items, features))
    upstream = [torch.ones(())] if case.direction == BACKWARD else []
    return call_of(case, FUNCTIONS[case.contender], (user, item), *upstream)


SUITE = Suite(
    title="diagonal; two-sided: the loss by hand over one product, as open_clip writes it",
    contenders=tuple(FUNCTIONS),
    setup=setup,
    work=lambda case: bounds.fusion_cross_entropy(*case.shape, case.direction == BACKWARD),
    shapes=((1024, 1024, 128), (8192, 8192, 128)),
    growth=tuple((size, size, 128) for size in (1024, 2048, 4096, 8192, 16_384)),
    growth_direction=BACKWARD,
    gpu_shapes=((16_384, 16_384, 128),),
)


def bench_fusion_contrastive(contest: Any) -> None:
    contest()
