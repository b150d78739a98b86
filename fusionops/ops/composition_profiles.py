"""Fusion of profiles as chunked compositions of PyTorch, for devices without kernels of ours.

Scores are held for a chunk of rows at a time, forward and once more backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fusionops.ops import composition
from fusionops.ops._dtypes import accumulator


def bidirectional_fusion(
    user: Tensor,
    item: Tensor,
    user_value: Tensor,
    item_value: Tensor,
    *,
    user_mask: Tensor | None,
    item_mask: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """See :func:`fusionops.bidirectional_fusion`: each direction by itself."""
    left, left_value = _blank(user, user_mask), _blank(user_value, user_mask)
    right, right_value = _blank(item, item_mask), _blank(item_value, item_mask)
    from_item = chunked_attention(left, right, right_value, user_mask, item_mask, scale)
    from_user = chunked_attention(right, left, left_value, item_mask, user_mask, scale)
    return from_item.to(user.dtype), from_user.to(user.dtype)


def _blank(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens in the accumulation dtype, zeros where they are missing: 0 times NaN would be NaN."""
    tokens = tokens.to(accumulator(tokens.dtype))
    return tokens if mask is None else tokens.masked_fill(~mask.unsqueeze(-1), 0)


def chunked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_mask: Tensor | None,
    mask: Tensor | None,
    scale: float,
) -> Tensor:
    """``softmax(scale * query @ key.mT) @ value`` for ``[B, Q, D]``, ``[B, M, D]``, ``[B, M, Dv]``.

    Zeros where a query or everything that it could attend to is missing.
    """
    batch, queries, tokens = query.shape[0], query.shape[1], key.shape[1]
    if mask is None:
        mask = query.new_ones((batch, tokens), dtype=torch.bool)
    if query_mask is None:
        query_mask = query.new_ones((batch, queries), dtype=torch.bool)
    fused: Tensor = _ChunkedAttention.apply(query, key, value, query_mask, mask, scale)
    return fused


def _chunks(batch: int, queries: int, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Parts of the batch and of the queries with at most ``CHUNK_ELEMENTS`` scores, or one row."""
    rows = max(1, composition.CHUNK_ELEMENTS // max(tokens, 1))
    entities = max(1, rows // max(queries, 1))
    for b in range(0, batch, entities):
        for q in range(0, queries, rows):
            yield slice(b, b + entities), slice(q, q + rows)


def _weights(query: Tensor, key: Tensor, query_mask: Tensor, mask: Tensor, scale: float) -> Tensor:
    present = query_mask.unsqueeze(2) & mask.unsqueeze(1)
    scores = (scale * (query @ key.mT)).masked_fill(~present, -torch.inf)
    # Of a row without anything present, softmax would make NaN.
    nothing = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.masked_fill(nothing, 0).softmax(-1).masked_fill(nothing, 0)


class _ChunkedAttention(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, query_mask: Tensor, mask: Tensor, scale: float
    ) -> Tensor:
        parts: dict[int, list[Tensor]] = {}
        for b, q in _chunks(len(query), query.shape[1], key.shape[1]):
            weights = _weights(query[b, q], key[b], query_mask[b, q], mask[b], scale)
            parts.setdefault(b.start, []).append(weights @ value[b])
        rows = [torch.cat(part, 1) for part in parts.values()]
        return torch.cat(rows) if rows else query.new_zeros((*query.shape[:2], value.shape[2]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:5])
        ctx.scale = inputs[5]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found = _ChunkedAttentionBackward.apply(grad, *ctx.saved_tensors, ctx.scale)
        needs = ctx.needs_input_grad
        wanted = (g if needed else None for g, needed in zip(found, needs[:3], strict=True))
        return (*wanted, None, None, None)


class _ChunkedAttentionBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_mask: Tensor,
        mask: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        queries: dict[int, list[Tensor]] = {}
        keys: dict[int, Tensor] = {}
        values: dict[int, Tensor] = {}
        for b, q in _chunks(len(query), query.shape[1], key.shape[1]):
            rows, incoming, start = query[b, q], grad[b, q], b.start
            weights = _weights(rows, key[b], query_mask[b, q], mask[b], scale)
            toward = incoming @ value[b].mT
            toward = scale * weights * (toward - (weights * toward).sum(-1, keepdim=True))
            queries.setdefault(start, []).append(toward @ key[b])
            more_keys, more_values = toward.mT @ rows, weights.mT @ incoming
            keys[start] = keys[start] + more_keys if start in keys else more_keys
            values[start] = values[start] + more_values if start in values else more_values
        if not queries:
            return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
        return (
            torch.cat([torch.cat(part, 1) for part in queries.values()]),
            torch.cat([*keys.values()]),
            torch.cat([*values.values()]),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "fusion of profiles can be differentiated once, not twice: use backend 'reference'"
        )
