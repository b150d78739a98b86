"""attention_fusion in Triton: few tokens several entities to a tile, many along the tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusionops.triton import _flash, _packed
from fusionops.triton._pairing import Pairing, Side

_SUMS = torch.float32
_Three = tuple[Tensor, Tensor, Tensor]


def _pairing(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    mask: Tensor | None,
    query_mask: Tensor | None,
    num_heads: int,
    scale: float | None,
    dropout_p: float,
    seed: Tensor | None,
) -> Pairing:
    if scale is None:
        scale = 1 / math.sqrt(max(key.shape[2] // num_heads, 1))
    rows, columns = Side(query, None, query_mask), Side(key, value, mask)
    return Pairing(rows, columns, num_heads, scale, dropout_p, seed)


def attention_fusion(
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    mask: Tensor | None,
    query_mask: Tensor | None,
    num_heads: int,
    scale: float | None,
    dropout_p: float,
    seed: Tensor | None,
    weights_wanted: bool,
) -> _Three:
    """``fusionops::attention_fusion``; see ``csrc/torch/schemas.h``."""
    pairing = _pairing(query, key, value, mask, query_mask, num_heads, scale, dropout_p, seed)
    (batch, tokens, _), queries = key.shape, query.shape[1]
    out = key.new_empty((batch, queries, pairing.columns.values.shape[2]))
    log_sum = out.new_empty((batch, num_heads, queries), dtype=_SUMS)
    counted = batch if weights_wanted else 0
    weights = out.new_empty((counted, num_heads, queries, tokens), dtype=_SUMS)
    if batch and queries:
        served = _packed if pairing.fits_tile else _flash
        served.forward(pairing, out, None, log_sum, None, weights if weights_wanted else None)
    return out, weights, log_sum


def attention_fusion_backward(
    grad: Tensor,
    grad_weights: Tensor | None,
    out: Tensor,
    log_sum: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor | None,
    mask: Tensor | None,
    query_mask: Tensor | None,
    num_heads: int,
    scale: float | None,
    dropout_p: float,
    seed: Tensor | None,
    query_wanted: bool,
    key_wanted: bool,
    value_wanted: bool,
) -> _Three:
    """``fusionops::attention_fusion_backward``; see ``csrc/torch/schemas.h``."""
    pairing = _pairing(query, key, value, mask, query_mask, num_heads, scale, dropout_p, seed)
    batch, (_, queries, width) = key.shape[0], query.shape
    # A query that all entities share has a gradient from each; they are added in order afterwards.
    shared = query_wanted and query.shape[0] != batch
    of_query = (
        query.new_empty((batch, queries, width), dtype=_SUMS)
        if shared
        else query.new_empty((query.shape[0] if query_wanted else 0, queries, width))
    )
    of_key = key.new_empty((batch if key_wanted else 0, *key.shape[1:]))
    values, value_wanted = pairing.columns.values, value_wanted and value is not None
    of_value = values.new_empty((batch if value_wanted else 0, *values.shape[1:]))
    grads = (
        of_query if query_wanted else None,
        of_key if key_wanted else None,
        None,
        of_value if value_wanted else None,
    )
    slopes = grad.contiguous(), None, None if grad_weights is None else grad_weights.contiguous()
    if batch and (queries or key.shape[1]) and (query_wanted or key_wanted or value_wanted):
        if pairing.fits_tile:
            _packed.backward(pairing, grads, slopes)
        else:
            _flash.backward(pairing, grads, slopes, (out, None), (log_sum, None))
    return of_query.sum(0, keepdim=True).to(query.dtype) if shared else of_query, of_key, of_value
