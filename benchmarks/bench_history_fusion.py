"""Histories of item ids pooled from a table, whose rows are never gathered in memory."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from comparison import bounds
from comparison.cases import (
    BACKWARD,
    COMPILE,
    EAGER,
    OURS,
    Call,
    Case,
    Shape,
    Suite,
    call_of,
    few_entities,
    gaussians,
)
from torch import Tensor

from fusionops import history_fusion, reference

SEGMENT, BAG, PADDED = "segment_reduce", "embedding_bag", "padded"


class Histories(NamedTuple):
    """Ragged lists of ids, and the same padded with item 0."""

    offsets: Tensor
    ids: Tensor
    padded: Tensor
    present: Tensor

    def to(self, device: str) -> Histories:
        """The same on a device."""
        return Histories(*(part.to(device) for part in self))


def histories(shape: Shape) -> Histories:
    """Of 1 to 2 L - 1 random ids each."""
    count, mean, items, _ = shape
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 2 * mean, (count,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    ids = torch.randint(items, (int(offsets[-1]),), generator=generator)
    present = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    padded = torch.zeros(present.shape, dtype=torch.int64).masked_scatter_(present, ids)
    return Histories(offsets, ids, padded, present)


def _ours(lists: Histories, table: Tensor, query: Tensor | None = None) -> Tensor:
    return history_fusion(table, lists.offsets, query, ids=lists.ids)


def _eager(lists: Histories, table: Tensor, query: Tensor | None = None) -> Tensor:
    return reference.history_fusion(table, lists.offsets, query, ids=lists.ids)


def _mean_by_segments(lists: Histories, table: Tensor) -> Tensor:
    return torch.segment_reduce(table[lists.ids], "mean", offsets=lists.offsets)


def _bag(lists: Histories, table: Tensor) -> Tensor:
    return torch.nn.functional.embedding_bag(lists.ids, table, lists.offsets[:-1], mode="mean")


def _attention_by_segments(lists: Histories, table: Tensor, query: Tensor) -> Tensor:
    """Gathered rows, and a softmax over each segment."""
    offsets, rows = lists.offsets, table[lists.ids]
    owner = torch.arange(len(query), device=query.device).repeat_interleave(offsets.diff())
    scores = (rows * query[owner]).sum(1) * query.shape[1] ** -0.5
    peak = torch.segment_reduce(scores.detach(), "max", offsets=offsets)
    weights = (scores - peak[owner]).exp()
    total = torch.segment_reduce(weights, "sum", offsets=offsets)
    fused = torch.segment_reduce(weights.unsqueeze(1) * rows, "sum", offsets=offsets)
    return fused / total.unsqueeze(1)


def _padded(lists: Histories, table: Tensor, query: Tensor) -> Tensor:
    """Every history as long as the longest, its tail masked."""
    rows = table[lists.padded]
    scores = (rows @ query.unsqueeze(2)).squeeze(2) * query.shape[1] ** -0.5
    weights = scores.masked_fill(~lists.present, -torch.inf).softmax(1)
    return (weights.unsqueeze(1) @ rows).squeeze(1)


COMMON: dict[str, Any] = {OURS: _ours, EAGER: _eager, COMPILE: _eager}
MEAN = {**COMMON, SEGMENT: _mean_by_segments, BAG: _bag}
ATTENTION = {**COMMON, SEGMENT: _attention_by_segments, PADDED: _padded}


def mean(case: Case) -> Call:
    """The call of one contender."""
    count, _, items, features = case.shape
    sizes = [(items, features)]
    if case.direction == BACKWARD:
        sizes.append((count, features))
    table, *upstream = gaussians(*sizes)
    function = partial(MEAN[case.contender], histories(case.shape).to(case.device))
    return call_of(case, function, (table,), *upstream)


def attention(case: Case) -> Call:
    """The call of one contender."""
    count, _, items, features = case.shape
    sizes = [(items, features), (count, features)]
    if case.direction == BACKWARD:
        sizes.append((count, features))
    table, query, *upstream = gaussians(*sizes)
    function = partial(ATTENTION[case.contender], histories(case.shape).to(case.device))
    return call_of(case, function, (table, query), *upstream)


def _suite(title: str, contenders: dict[str, Any], setup: Any, *, attention: bool) -> Suite:
    return Suite(
        title=f"B histories of mean length L by ids from a table of P items; {title}",
        contenders=tuple(contenders),
        setup=setup,
        work=lambda case: bounds.history_fusion(
            *case.shape, case.direction == BACKWARD, attention=attention
        ),
        axes=("B", "L", "P", "D"),
        shapes=((1024, 50, 10_000, 64), (8192, 50, 100_000, 64)),
        growth=tuple((count, 50, 100_000, 64) for count in (1024, 2048, 4096, 8192, 16_384)),
        grows="B",
        small=few_entities,
        growth_direction=BACKWARD,
        gpu_shapes=((65_536, 50, 1_000_000, 64),),
    )


SUITES = {
    "mean": _suite(
        "eager: gather and index_add; segment_reduce: gather and torch.segment_reduce; "
        "embedding_bag: torch.nn.functional.embedding_bag",
        MEAN,
        mean,
        attention=False,
    ),
    "attention": _suite(
        "eager: gather and index_add; segment_reduce: gather and torch.segment_reduce; "
        "padded: rows of the longest history's length, masked",
        ATTENTION,
        attention,
        attention=True,
    ),
}


def bench_history_fusion(contest: Any) -> None:
    contest()
