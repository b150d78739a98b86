"""The softmax-weighted sum over a few tokens: the values are read once, bound by memory."""

from __future__ import annotations

from typing import Any

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
from torch import Tensor

from fusionops import reference, weighted_fusion

MATMUL = "matmul"


def matmul(values: Tensor, logits: Tensor) -> Tensor:
    """The sum as a batch of products of a row and a matrix."""
    return (logits.softmax(1).unsqueeze(1) @ values).squeeze(1)


FUNCTIONS: dict[str, Any] = {
    OURS: weighted_fusion,
    EAGER: reference.weighted_fusion,
    COMPILE: reference.weighted_fusion,
    MATMUL: matmul,
}


def setup(case: Case) -> Call:
    """The call of one contender."""
    entities, tokens, features = case.shape
    sizes = [(entities, tokens, features), (entities, tokens)]
    if case.direction == BACKWARD:
        sizes.append((entities, features))
    values, logits, *upstream = gaussians(*sizes)
    return call_of(case, FUNCTIONS[case.contender], (values, logits), *upstream)


SUITE = Suite(
    title="B entities of M tokens, logits of their own; matmul: softmax(logits) @ values",
    contenders=tuple(FUNCTIONS),
    setup=setup,
    work=lambda case: bounds.weighted_fusion(*case.shape, case.direction == BACKWARD),
    axes=("B", "M", "D"),
    shapes=((65_536, 4, 64), (8192, 8, 256)),
    growth=tuple((entities, 4, 64) for entities in (16_384, 32_768, 65_536, 131_072, 262_144)),
    grows="B",
    small=few_entities,
    growth_direction=BACKWARD,
    gpu_shapes=((524_288, 4, 64), (65_536, 8, 256)),
)


def bench_weighted_fusion(contest: Any) -> None:
    contest()
