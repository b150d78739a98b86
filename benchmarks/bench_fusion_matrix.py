"""``F = S_UP / sqrt(S_PP)``, all of it: the bound is writing the U x P results once."""

from __future__ import annotations

from typing import Any

import torch
from comparison import bounds
from comparison.cases import (
    BACKWARD,
    COMPILE,
    DEFAULT_SHAPES,
    EAGER,
    OURS,
    Call,
    Case,
    Suite,
    call_of,
    doubling,
    gaussians,
)
from comparison.memory import require_matrices
from torch import Tensor

from fusionops import fusion_matrix, reference

NORMALISED = "normalised first"


def normalize_first(user: Tensor, item: Tensor) -> Tensor:
    """What a user writes who wants no second pass over the U x P scores."""
    return user @ torch.nn.functional.normalize(item, dim=-1).mT


FUNCTIONS: dict[str, Any] = {
    OURS: fusion_matrix,
    EAGER: reference.fusion_matrix,
    COMPILE: reference.fusion_matrix,
    NORMALISED: normalize_first,
}


def setup(case: Case) -> Call:
    """The call of one contender."""
    users, items, features = case.shape
    require_matrices(case, users * items)
    sizes = [(users, features), (items, features)]
    if case.direction == BACKWARD:
        sizes.append((users, items))
    user, item, *upstream = gaussians(*sizes)
    return call_of(case, FUNCTIONS[case.contender], (user, item), *upstream)


SUITE = Suite(
    title="diagonal; normalised first: the product with torch.nn.functional.normalize(item)",
    contenders=tuple(FUNCTIONS),
    setup=setup,
    work=lambda case: bounds.fusion_matrix(*case.shape, case.direction == BACKWARD),
    forward_only=DEFAULT_SHAPES[2:],
    growth=doubling(16, 64),
    gpu_shapes=((1024, 100_000, 64), (4096, 100_000, 128)),
)


def bench_fusion_matrix(contest: Any) -> None:
    contest()
