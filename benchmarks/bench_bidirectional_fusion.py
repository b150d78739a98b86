"""Co-attention: one matrix of scores for both directions, where two calls make one each."""

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
    few_entities,
    gaussians,
)
from comparison.memory import require_matrices
from torch import Tensor

from fusionops import bidirectional_fusion, reference

TWO_SDPA = "two sdpa"
Both = tuple[Tensor, Tensor]


def eager(user: Tensor, item: Tensor) -> Both:
    return reference.bidirectional_fusion(user, item, user, item, scale=user.shape[2] ** -0.5)


def two_sdpa(user: Tensor, item: Tensor) -> Both:
    """A call for each direction."""
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(user, item, item), attention(item, user, user)


FUNCTIONS: dict[str, Any] = {
    OURS: bidirectional_fusion,
    EAGER: eager,
    COMPILE: eager,
    TWO_SDPA: two_sdpa,
}


def setup(case: Case) -> Call:
    """The call of one contender."""
    batch, users, items, features = case.shape
    if case.contender in (EAGER, COMPILE):
        require_matrices(case, batch * users * items)
    sides = [(batch, users, features), (batch, items, features)]
    if case.direction == BACKWARD:
        sides *= 2
    user, item, *upstream = gaussians(*sides)
    return call_of(case, FUNCTIONS[case.contender], (user, item), *upstream)


SUITE = Suite(
    title=(
        "N tokens of a user and M of an item, themselves the values; two sdpa: "
        "torch.nn.functional.scaled_dot_product_attention once for each direction"
    ),
    contenders=tuple(FUNCTIONS),
    setup=setup,
    work=lambda case: bounds.bidirectional_fusion(*case.shape, case.direction == BACKWARD),
    axes=("B", "N", "M", "D"),
    shapes=((64, 100, 100, 64), (8, 1000, 1000, 64)),
    growth=tuple((8, tokens, tokens, 64) for tokens in (125, 250, 500, 1000, 2000)),
    grows="M",
    small=few_entities,
    growth_direction=BACKWARD,
    gpu_shapes=((1024, 100, 100, 64), (64, 1000, 1000, 64)),
)


def bench_bidirectional_fusion(contest: Any) -> None:
    contest()
