"""The pooling of histories as a chunked composition of PyTorch, for devices without kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fusionops.ops import composition
from fusionops.ops._dtypes import accumulator


def history_fusion(
    values: Tensor,
    offsets: Tensor,
    query: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    ids: Tensor | None = None,
) -> Tensor:
    """See :func:`fusionops.history_fusion`: a chunk of entries at a time."""
    entries = values.shape[0] if ids is None else ids.shape[0]
    place = torch.arange(entries, device=values.device)
    owner = torch.searchsorted(offsets[1:].contiguous(), place, right=True)
    if query is None and weights is None:
        weights = (1 / offsets.diff().to(accumulator(values.dtype)))[owner]
    rows = offsets.shape[0] - 1
    fused: Tensor = _ChunkedPooling.apply(values, query, weights, owner, ids, rows)[0]
    return fused


class _ChunkedPooling(torch.autograd.Function):
    """The sum of each history's rows by `weights`, or by the softmax with `query`; and the weights.

    The rows of a chunk of entries exist at a time, forward and once more backward.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        values: Tensor,
        query: Tensor | None,
        weights: Tensor | None,
        owner: Tensor,
        ids: Tensor | None,
        rows: int,
    ) -> tuple[Tensor, Tensor]:
        if weights is None:
            assert query is not None
            scores = _products(values, query, owner, ids) * _scale(values)
            peak = scores.new_full((rows,), -torch.inf).scatter_reduce(0, owner, scores, "amax")
            factor = (scores - peak.masked_fill(peak == -torch.inf, 0)[owner]).exp()
            total = factor.new_zeros(rows).index_add(0, owner, factor)
            weights = factor / total.masked_fill(total == 0, 1)[owner]
        fused = weights.new_zeros(rows, values.shape[1])
        for part, each in _chunks(values, ids):
            fused = fused.index_add(0, owner[part], weights[part].unsqueeze(1) * each)
        return fused.to(values.dtype), weights.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        values, query, _, owner, ids, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(values, query, output[1], owner, ids)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        found = _ChunkedPoolingBackward.apply(grad, *ctx.saved_tensors)
        needs = ctx.needs_input_grad
        return (
            *(g if needed else None for g, needed in zip(found, needs[:3], strict=True)),
            *[None] * 3,
        )


class _ChunkedPoolingBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        values: Tensor,
        query: Tensor | None,
        weights: Tensor,
        owner: Tensor,
        ids: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        grad = grad.to(weights.dtype)
        products = _products(values, grad, owner, ids)
        mean = weights.new_zeros(len(grad)).index_add(0, owner, weights * products)
        far = weights * (products - mean[owner]) * _scale(values)
        toward_query = torch.zeros_like(grad)
        toward_table = weights.new_zeros(values.shape)
        toward_rows = [toward_table[:0]]
        for part, each in _chunks(values, ids):
            toward = weights[part].unsqueeze(1) * grad[owner[part]]
            if query is not None:
                by_score = far[part].unsqueeze(1)
                toward = toward + by_score * query[owner[part]].to(toward.dtype)
                toward_query = toward_query.index_add(0, owner[part], by_score * each)
            if ids is None:
                toward_rows.append(toward)
            else:
                toward_table = toward_table.index_add(0, ids[part], toward)
        toward_values = torch.cat(toward_rows) if ids is None else toward_table
        return toward_values.to(values.dtype), toward_query.to(values.dtype), products

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "history_fusion can be differentiated once, not twice: use backend 'reference'"
        )


def _scale(values: Tensor) -> float:
    return 1 / math.sqrt(max(values.shape[1], 1))


def _chunks(values: Tensor, ids: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Parts of the entries, and their rows in the accumulation dtype."""
    entries = values.shape[0] if ids is None else ids.shape[0]
    size = max(composition.CHUNK_ELEMENTS // max(values.shape[1], 1), 1)
    for begin in range(0, entries, size):
        part = slice(begin, min(begin + size, entries))
        each = values[part] if ids is None else values[ids[part]]
        yield part, each.to(accumulator(values.dtype))


def _products(values: Tensor, other: Tensor, owner: Tensor, ids: Tensor | None) -> Tensor:
    """The product of each entry's row with the row of `other` of its history."""
    found = [values.new_zeros(0, dtype=accumulator(values.dtype))]
    for part, each in _chunks(values, ids):
        found.append((each * other[owner[part]].to(each.dtype)).sum(1))
    return torch.cat(found)
