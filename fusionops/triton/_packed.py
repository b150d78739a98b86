"""Attention among few tokens, one way or both ways, in Triton: several entities to a tile.

The products of one entity are far smaller than a matrix instruction. So a program takes `GROUP`
entities of one head, puts their tokens one below the other, makes all products of the tile at once
and keeps those of an entity with itself: the others cost nothing but arithmetic, which is free
here. Everything that belongs to an entity is in one tile, so that both passes read and write each
byte once, and the backward pass makes the softmaxes anew.

"Rows" are one side, queries or users, and "columns" the other. The rows' softmax goes along the
columns; with `BOTH` ways there is the columns' one along the rows, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton._launch import launch
from fusionops.triton._pairing import Pairing
from fusionops.triton._philox import dropout
from fusionops.triton._softmax import finite_peak, log_sum_of, reciprocal
from fusionops.triton._tiles import (
    chunk,
    load_rows,
    precision,
    present,
    products,
    store_rows,
)

# Tokens of either side up to which entities are packed: more would make the products of a tile grow
# faster than the bytes that it moves.
_PACKED = 32


@triton.jit
def _places(first, entities, count, GROUP: tl.constexpr, TOKENS: tl.constexpr):
    """Of each token of a tile its entity, its number, whether it exists, its entity's number."""
    lane = tl.arange(0, TOKENS)
    divisor = tl.maximum(count, 1)
    own = lane // divisor
    entity = first + own.to(tl.int64)
    inside = (lane < GROUP * count) & (entity < entities)
    return entity, (lane % divisor).to(tl.int64), inside, own


@triton.jit
def _weights_along(scores, there, axis: tl.constexpr):
    """The softmax along `axis` of the scores that are there, and the log-sum-exp.

    An entity whose scores are NaN has no weights at the others', either.
    """
    scores = tl.where(there, scores, -float("inf"))
    peak = tl.max(scores, axis)
    powers = tl.exp(scores - tl.expand_dims(finite_peak(peak), axis))
    total = tl.sum(powers, axis)
    weights = tl.where(there, powers * tl.expand_dims(reciprocal(total), axis), 0.0)
    return weights, log_sum_of(peak, total)


@triton.jit
def _add_weighted(
    sums, weights, own, side, at, there, first, depth, stride_d,
    CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`sums` and the rows of `side`, features from `first` on, weighted by ``[sums, rows]``.

    Weights are 0 where `own` is False, but 0 times NaN is NaN: an entity must not spoil those it
    shares the tile with. So what is not finite is left out, and then put where it belongs.
    """
    rows = load_rows(side, at, there, first, depth, stride_d, CHUNK)
    wrong = tl.abs(rows.to(tl.float32)) == float("inf")
    wrong = wrong | (rows != rows)
    rows = tl.where(wrong, 0.0, rows).to(side.dtype.element_ty)
    sums = tl.dot(weights.to(rows.dtype), rows, sums, input_precision=PRECISION)
    if tl.max(tl.max(wrong.to(tl.int32), 1), 0) > 0:
        reached = tl.dot(own.to(tl.float16), wrong.to(tl.float16))
        sums = tl.where(reached > 0, float("nan"), sums)
    return sums


@triton.jit
def _store_weighted(
    out, at, inside, depth, own,
    weights, side, side_at, side_there, side_d,
    other_weights, other, other_at, other_there, other_d,
    CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Writes the rows of `side` weighted by ``weights [out, side]``, plus those of `other`."""
    for first in range(0, depth, CHUNK):
        sums = tl.zeros([at.shape[0], CHUNK], tl.float32)
        sums = _add_weighted(
            sums, weights, own, side, side_at, side_there, first, depth, side_d, CHUNK, PRECISION
        )
        if other is not None:
            sums = _add_weighted(
                sums, other_weights, own, other, other_at, other_there, first, depth, other_d,
                CHUNK, PRECISION,
            )  # fmt: skip
        store_rows(out, at, inside, first, depth, sums, CHUNK)


@triton.jit
def _forward(
    row_out, column_out, row_log_sum, column_log_sum, weights_out,
    row, column, row_value, column_value, row_mask, column_mask, seed,
    entities, heads, row_count, column_count, depth, row_depth, column_depth,
    row_b, row_n, row_d, column_b, column_n, column_d,
    row_value_b, row_value_n, row_value_d, column_value_b, column_value_n, column_value_d,
    row_mask_b, row_mask_n, column_mask_b, column_mask_n, scale, threshold, factor,
    GROUP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    head = (tl.program_id(0) % heads).to(tl.int64)
    first = (tl.program_id(0) // heads).to(tl.int64) * GROUP
    r_entity, r_token, r_inside, r_own = _places(first, entities, row_count, GROUP, ROWS)
    c_entity, c_token, c_inside, c_own = _places(first, entities, column_count, GROUP, COLUMNS)
    r_there = present(row_mask, r_entity, r_token, r_inside, row_mask_b, row_mask_n)
    c_there = present(column_mask, c_entity, c_token, c_inside, column_mask_b, column_mask_n)

    row_at = r_entity * row_b + r_token * row_n + head * depth * row_d
    column_at = c_entity * column_b + c_token * column_n + head * depth * column_d
    scores = scale * products(
        None, row, row_at, r_there, row_d, column, column_at, c_there, column_d, depth,
        CHUNK, PRECISION,
    )  # fmt: skip
    same = r_own[:, None] == c_own[None, :]
    there = same & r_there[:, None] & c_there[None, :]
    weights, log_sum = _weights_along(scores, there, 1)
    r_place = (r_entity * heads + head) * row_count + r_token
    tl.store(row_log_sum + r_place, log_sum, mask=r_inside)
    number = r_place[:, None] * column_count + c_token[None, :]
    if seed is not None:
        weights *= dropout(number, seed, threshold, factor)
    if weights_out is not None:
        inside = same & r_inside[:, None] & c_inside[None, :]
        tl.store(weights_out + number, weights, mask=inside)
    out_at = (r_entity * row_count + r_token) * heads * column_depth + head * column_depth
    value_at = c_entity * column_value_b + c_token * column_value_n
    value_at += head * column_depth * column_value_d
    _store_weighted(
        row_out, out_at, r_inside, column_depth, there,
        weights, column_value, value_at, c_there, column_value_d, None, None, None, None, None,
        CHUNK, PRECISION,
    )  # fmt: skip

    if column_out is not None:
        weights, log_sum = _weights_along(scores, there, 0)
        tl.store(column_log_sum + c_entity * column_count + c_token, log_sum, mask=c_inside)
        _store_weighted(
            column_out, (c_entity * column_count + c_token) * row_depth, c_inside, row_depth,
            tl.trans(there), tl.trans(weights), row_value,
            r_entity * row_value_b + r_token * row_value_n, r_there, row_value_d,
            None, None, None, None, None, CHUNK, PRECISION,
        )  # fmt: skip


@triton.jit
def _slopes_along(weights, slopes, there, factors, axis: tl.constexpr):
    """The gradient toward the scores of a softmax along `axis`, from that of its weights."""
    slopes = tl.where(there, slopes, 0.0)
    if factors is not None:
        slopes *= factors
    mean = tl.sum(weights * slopes, axis)
    return tl.where(there, weights * (slopes - tl.expand_dims(mean, axis)), 0.0)


@triton.jit
def _backward(
    grad_row, grad_column, grad_row_value, grad_column_value,
    row_slope, column_slope, weights_slope,
    row, column, row_value, column_value, row_mask, column_mask, seed,
    entities, heads, row_count, column_count, depth, row_depth, column_depth,
    row_b, row_n, row_d, column_b, column_n, column_d,
    row_value_b, row_value_n, row_value_d, column_value_b, column_value_n, column_value_d,
    row_mask_b, row_mask_n, column_mask_b, column_mask_n, scale, threshold, factor,
    ROW_IS_VALUE: tl.constexpr, COLUMN_IS_VALUE: tl.constexpr,
    GROUP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of both sides and of their values, those that have a place to go.

    `row_slope` is the gradient of what the rows were made into, `[B, N, heads * column_depth]`, and
    `column_slope` that of the columns, None where only rows attend. A side that is its own value
    has the sum of both gradients.
    """
    head = (tl.program_id(0) % heads).to(tl.int64)
    first = (tl.program_id(0) // heads).to(tl.int64) * GROUP
    r_entity, r_token, r_inside, r_own = _places(first, entities, row_count, GROUP, ROWS)
    c_entity, c_token, c_inside, c_own = _places(first, entities, column_count, GROUP, COLUMNS)
    r_there = present(row_mask, r_entity, r_token, r_inside, row_mask_b, row_mask_n)
    c_there = present(column_mask, c_entity, c_token, c_inside, column_mask_b, column_mask_n)
    row_at = r_entity * row_b + r_token * row_n + head * depth * row_d
    column_at = c_entity * column_b + c_token * column_n + head * depth * column_d
    scores = scale * products(
        None, row, row_at, r_there, row_d, column, column_at, c_there, column_d, depth,
        CHUNK, PRECISION,
    )  # fmt: skip
    there = (r_own[:, None] == c_own[None, :]) & r_there[:, None] & c_there[None, :]
    row_out_at = r_entity * row_count + r_token
    column_out_at = c_entity * column_count + c_token

    weights, _ = _weights_along(scores, there, 1)
    slope_at = row_out_at * heads * column_depth + head * column_depth
    value_at = c_entity * column_value_b + c_token * column_value_n
    value_at += head * column_depth * column_value_d
    slopes = products(
        None, row_slope, slope_at, r_there, 1, column_value, value_at, c_there, column_value_d,
        column_depth, CHUNK, PRECISION,
    )  # fmt: skip
    number = ((r_entity * heads + head) * row_count + r_token)[:, None] * column_count
    number += c_token[None, :]
    if weights_slope is not None:
        slopes += tl.load(weights_slope + number, mask=there, other=0)
    factors = None
    if seed is not None:
        factors = dropout(number, seed, threshold, factor)
    score_slopes = _slopes_along(weights, slopes, there, factors, 1)
    if seed is not None:
        weights *= factors
    weights, own = tl.trans(weights), tl.trans(there)

    back_weights = None
    if column_slope is not None:
        back_weights, _ = _weights_along(scores, there, 0)
        slopes = products(
            None, row_value, r_entity * row_value_b + r_token * row_value_n, r_there, row_value_d,
            column_slope, column_out_at * row_depth, c_there, 1, row_depth, CHUNK, PRECISION,
        )  # fmt: skip
        score_slopes += _slopes_along(back_weights, slopes, there, None, 0)
        if grad_row_value is not None:
            _store_weighted(
                grad_row_value, row_out_at * row_depth, r_inside, row_depth, there,
                back_weights, column_slope, column_out_at * row_depth, c_there, 1,
                None, None, None, None, None, CHUNK, PRECISION,
            )  # fmt: skip
    score_slopes *= scale
    if grad_row is not None:
        _store_weighted(
            grad_row, row_out_at * heads * depth + head * depth, r_inside, depth, there,
            score_slopes, column, column_at, c_there, column_d,
            back_weights, column_slope if ROW_IS_VALUE else None, column_out_at * row_depth,
            c_there, 1, CHUNK, PRECISION,
        )  # fmt: skip
    if grad_column is not None:
        _store_weighted(
            grad_column, column_out_at * heads * depth + head * depth, c_inside, depth, own,
            tl.trans(score_slopes), row, row_at, r_there, row_d,
            weights, row_slope if COLUMN_IS_VALUE else None, slope_at, r_there, 1,
            CHUNK, PRECISION,
        )  # fmt: skip
    if grad_column_value is not None:
        _store_weighted(
            grad_column_value, column_out_at * heads * column_depth + head * column_depth,
            c_inside, column_depth, own, weights, row_slope, slope_at, r_there, 1,
            None, None, None, None, None, CHUNK, PRECISION,
        )  # fmt: skip


def _tile(pairing: Pairing) -> dict[str, Any]:
    rows, columns = pairing.rows.tokens.shape[1], pairing.columns.tokens.shape[1]
    group = max(1, _PACKED // max(rows, columns, 1))
    high = max(16, triton.next_power_of_2(group * rows))
    wide = max(16, triton.next_power_of_2(group * columns))
    features, exact = chunk(*pairing.tensors, heads=pairing.heads), pairing.dtype == torch.float32
    # A warp has 32 x 32 x 32 products of halves at most, and half as many of float32, whose
    # operands and sums are all in registers; one more and they spill.
    warps = high * wide * max(features, 64) // (1 << (14 if exact else 15))
    return {
        "GROUP": group,
        "ROWS": high,
        "COLUMNS": wide,
        "CHUNK": features,
        "PRECISION": precision(pairing.dtype),
        "num_warps": min(8, max(1, warps)),
        "num_stages": 1,  # a tile's loops over features have one step or few
    }


def forward(
    pairing: Pairing,
    row_out: Tensor,
    column_out: Tensor | None,
    row_log_sum: Tensor,
    column_log_sum: Tensor | None,
    weights: Tensor | None,
) -> None:
    tile = _tile(pairing)
    grid = (triton.cdiv(pairing.columns.tokens.shape[0], tile["GROUP"]) * pairing.heads,)
    results = (row_out, column_out, row_log_sum, column_log_sum, weights)
    launch(_forward, grid, *results, *pairing.arguments(), **tile)


def backward(
    pairing: Pairing,
    grads: Sequence[Tensor | None],
    slopes: tuple[Tensor, Tensor | None, Tensor | None],
) -> None:
    """Writes `grads`, of rows, columns and their values, from those of the results and weights."""
    tile = _tile(pairing)
    grid = (triton.cdiv(pairing.columns.tokens.shape[0], tile["GROUP"]) * pairing.heads,)
    launch(
        _backward,
        grid,
        *grads,
        *slopes,
        *pairing.arguments(),
        ROW_IS_VALUE=pairing.rows.value is None,
        COLUMN_IS_VALUE=pairing.columns.value is None,
        **tile,
    )
