"""``R = F @ values``: D R (U + P) operations if reassociated, U P (D + R) if not."""

from __future__ import annotations

from typing import Any

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

from fusionops import fusion_recommend, reference

R = 64
BY_HAND = "by hand"


def reassociated(user: Tensor, item: Tensor, values: Tensor) -> Tensor:
    """What a user writes who knows that the matrix is not needed."""
    scaled = item * reference.inverse_norm(item, 0.0).unsqueeze(-1)
    return user @ (scaled.mT @ values)


FUNCTIONS: dict[str, Any] = {
    OURS: fusion_recommend,
    EAGER: reference.fusion_recommend,
    COMPILE: reference.fusion_recommend,
    BY_HAND: reassociated,
}


def setup(case: Case) -> Call:
    """The call of one contender."""
    users, items, features = case.shape
    if case.contender in (EAGER, COMPILE):
        require_matrices(case, users * items)
    sizes = [(users, features), (items, features), (items, R)]
    if case.direction == BACKWARD:
        sizes.append((users, R))
    user, item, values, *upstream = gaussians(*sizes)
    return call_of(case, FUNCTIONS[case.contender], (user, item, values), *upstream)


SUITE = Suite(
    title=f"R = {R}, diagonal; by hand: eager reassociated, user @ (item.T @ values)",
    contenders=tuple(FUNCTIONS),
    setup=setup,
    work=lambda case: bounds.fusion_recommend(*case.shape, R, case.direction == BACKWARD),
    forward_only=DEFAULT_SHAPES[2:],
    growth=tuple((items, items, 64) for _, items, _ in doubling(64, 64, last=2_000_000)),
    gpu_shapes=((8192, 100_000, 64),),
)


def bench_fusion_recommend(contest: Any) -> None:
    contest()
