"""What fuses profiles as chunked compositions of PyTorch, for devices without kernels of ours.

A chunk's weights are made anew in the backward pass: what stays between the passes is what went in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fusionops import reference
from fusionops.ops.composition import CHUNK_ELEMENTS


def recomputed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``, whose intermediate results the backward pass makes anew."""
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def attention_fusion(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    num_heads: int,
    scale: float,
    query_mask: Tensor | None,
    dropout_p: float,
    seed: Tensor | None,
) -> tuple[Tensor, None]:
    """See :func:`fusionops.attention_fusion`; the weights are never held at once."""
    batch, tokens, queries = key.shape[0], key.shape[1], query.shape[1]
    given: dict[str, Any] = {"scale": scale, "dropout_p": dropout_p, "seed": seed}
    if batch * num_heads * queries * tokens <= CHUNK_ELEMENTS:
        fused, _ = reference.attention_fusion(
            query, key, value, mask, num_heads=num_heads, query_mask=query_mask, **given
        )
        return fused, None
    query = query.expand(batch, *query.shape[1:])
    per_sample = num_heads * queries * tokens
    if per_sample <= CHUNK_ELEMENTS:
        step = CHUNK_ELEMENTS // per_sample
        parts = [
            recomputed(
                reference.attention_fusion,
                query[b : b + step],
                key[b : b + step],
                value[b : b + step],
                None if mask is None else mask[b : b + step],
                num_heads=num_heads,
                query_mask=None if query_mask is None else query_mask[b : b + step],
                first=b * per_sample,
                **given,
            )[0]
            for b in range(0, batch, step)
        ]
        return torch.cat(parts), None
    rows = [
        torch.cat([_head(query, key, value, mask, query_mask, b, h, num_heads, given)
                   for h in range(num_heads)], 2)
        for b in range(batch)
    ]  # fmt: skip
    return torch.cat(rows), None


def _head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    query_mask: Tensor | None,
    sample: int,
    head: int,
    num_heads: int,
    given: dict[str, Any],
) -> Tensor:
    """One head of one sample, ``[1, Q, Dv / H]``, in chunks of queries."""
    one = slice(sample, sample + 1)
    query, key, value = (side[one].chunk(num_heads, 2)[head] for side in (query, key, value))
    queries, tokens = query.shape[1], key.shape[1]
    parts = [
        recomputed(
            reference.attention_fusion,
            query[:, rows],
            key,
            value,
            None if mask is None else mask[one],
            query_mask=None if query_mask is None else query_mask[one, rows],
            first=((sample * num_heads + head) * queries + rows.start) * tokens,
            **given,
        )[0]
        for rows in _slices(queries, max(1, CHUNK_ELEMENTS // max(tokens, 1)))
    ]
    return torch.cat(parts, 1)


def _slices(size: int, step: int) -> Iterator[slice]:
    for begin in range(0, size, step):
        yield slice(begin, min(size, begin + step))
