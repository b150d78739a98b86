"""``R = F @ values``: D R (U + P) operations if reassociated, U P (D + R) if not."""

from __future__ import annotations

from typing import Any

from comparison.cases import BACKWARD, COMPILE, EAGER, OURS, PEER, Call, Case, call_of, gaussians
from comparison.memory import require_matrices
from torch import Tensor

from fusionops import fusion_recommend, reference

R = 64
TITLE = f"R = {R}, diagonal; peer: eager reassociated by hand, user @ (item.T @ values)"


def reassociated(user: Tensor, item: Tensor, values: Tensor) -> Tensor:
    """What a user writes who knows that the matrix is not needed."""
    scaled = item * reference.inverse_norm(item, 0.0).unsqueeze(-1)
    return user @ (scaled.mT @ values)


FUNCTIONS: dict[str, Any] = {
    OURS: fusion_recommend,
    EAGER: reference.fusion_recommend,
    COMPILE: reference.fusion_recommend,
    PEER: reassociated,
}


def setup(case: Case) -> Call:
    """The call of one contender."""
    users, items, features = case.shape
    if case.contender in (EAGER, COMPILE):
        require_matrices(case)
    sizes = [(users, features), (items, features), (items, R)]
    if case.direction == BACKWARD:
        sizes.append((users, R))
    user, item, values, *upstream = gaussians(*sizes)
    return call_of(case, FUNCTIONS[case.contender], (user, item, values), *upstream)


def bench_fusion_recommend(contest: Any, case: Case) -> None:
    contest(setup, case, title=TITLE)
