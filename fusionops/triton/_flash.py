"""Attention among many tokens, one way or both ways, in Triton: tile by tile, nothing ``N x M``.

A program has a block of rows of one entity and head, and goes along the columns: forward with an
online softmax; backward with the log-sum-exps that the forward pass kept. One backward kernel gives
the gradient of one side, the rows, from both softmaxes: from the rows' own, along the columns, and
from the columns', along the rows. So attention's queries (the first alone), its tokens (the second
alone, the sides swapped) and both sides of a bidirectional fusion are the same code, and each sum
is made by one program in one order.

Heads wider than a chunk are cut into pieces, a program each, that make the scores again.
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
from fusionops.triton._softmax import log_sum_of, online, reciprocal
from fusionops.triton._tiles import (
    add_weighted,
    chunk,
    load_rows,
    precision,
    present,
    products,
    store_rows,
)


@triton.jit
def _place(row_count, pieces, heads, ROWS: tl.constexpr):
    """The rows, the piece of features, the head and the entity of this program."""
    blocks = tl.cdiv(row_count, ROWS)
    program = tl.program_id(0)
    token = ((program % blocks) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    program = program // blocks
    head = (program // pieces) % heads
    return token, program % pieces, head.to(tl.int64), (program // pieces // heads).to(tl.int64)


@triton.jit
def _numbers(entity, head, heads, r_token, c_token, row_count, column_count, SWAPPED: tl.constexpr):
    """The numbers of the weights in ``[B, H, rows, columns]``, or with rows and columns swapped."""
    unit = entity * heads + head
    if SWAPPED:
        return (unit * column_count + c_token)[None, :] * row_count + r_token[:, None]
    return (unit * row_count + r_token)[:, None] * column_count + c_token[None, :]


@triton.jit
def _forward(
    out, log_sum_out,
    row, column, row_value, column_value, row_mask, column_mask, seed,
    entities, heads, row_count, column_count, depth, row_depth, column_depth,
    row_b, row_n, row_d, column_b, column_n, column_d,
    row_value_b, row_value_n, row_value_d, column_value_b, column_value_n, column_value_d,
    row_mask_b, row_mask_n, column_mask_b, column_mask_n, scale, threshold, factor,
    ONE_CHUNK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    pieces = tl.maximum(tl.cdiv(column_depth, CHUNK), 1)
    r_token, piece, head, entity = _place(row_count, pieces, heads, ROWS)
    r_inside = r_token < row_count
    r_there = present(row_mask, entity, r_token, r_inside, row_mask_b, row_mask_n)
    row_at = entity * row_b + r_token * row_n + head * depth * row_d
    rows = None
    if ONE_CHUNK:
        rows = load_rows(row, row_at, r_there, 0, depth, row_d, CHUNK)
    peak = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, CHUNK], tl.float32)
    for first in range(0, column_count, COLUMNS):
        c_token = (first + tl.arange(0, COLUMNS)).to(tl.int64)
        c_there = present(
            column_mask, entity, c_token, c_token < column_count, column_mask_b, column_mask_n
        )
        column_at = entity * column_b + c_token * column_n + head * depth * column_d
        scores = scale * products(
            rows, row, row_at, r_there, row_d, column, column_at, c_there, column_d, depth,
            CHUNK, PRECISION,
        )  # fmt: skip
        scores = tl.where(r_there[:, None] & c_there[None, :], scores, -float("inf"))
        peak, total, powers, shrunk = online(peak, total, scores, 1)
        if seed is not None:
            number = _numbers(entity, head, heads, r_token, c_token, row_count, column_count, False)
            powers *= dropout(number, seed, threshold, factor)
        value_at = entity * column_value_b + c_token * column_value_n
        value_at += head * column_depth * column_value_d
        sums = add_weighted(
            sums * shrunk[:, None], powers, column_value, value_at, c_there, piece * CHUNK,
            column_depth, column_value_d, CHUNK, PRECISION,
        )  # fmt: skip
    sums *= reciprocal(total)[:, None]
    out_at = (entity * row_count + r_token) * heads * column_depth + head * column_depth
    store_rows(out, out_at, r_inside, piece * CHUNK, column_depth, sums, CHUNK)
    place = log_sum_out + (entity * heads + head) * row_count + r_token
    if piece == 0:
        tl.store(place, log_sum_of(peak, total), mask=r_inside)


@triton.jit
def _weights(
    weights_out, mean_out, log_sum, out, slope, weights_slope,
    row, column, row_value, column_value, row_mask, column_mask, seed,
    entities, heads, row_count, column_count, depth, row_depth, column_depth,
    row_b, row_n, row_d, column_b, column_n, column_d,
    row_value_b, row_value_n, row_value_d, column_value_b, column_value_n, column_value_d,
    row_mask_b, row_mask_n, column_mask_b, column_mask_n, scale, threshold, factor,
    ONE_CHUNK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """What log-sum-exps give for each row: the weights that were applied, or the mean slope.

    That is the mean of the gradients of the row's weights, by the weights: the product of the
    result with its own gradient, and what the weights' gradient adds if they have one.
    """
    r_token, _, head, entity = _place(row_count, 1, heads, ROWS)
    r_inside = r_token < row_count
    r_there = present(row_mask, entity, r_token, r_inside, row_mask_b, row_mask_n)
    mean = tl.zeros([ROWS], tl.float32)
    if mean_out is not None:
        at = (entity * row_count + r_token) * heads * column_depth + head * column_depth
        for first in range(0, column_depth, CHUNK):
            result = load_rows(out, at, r_there, first, column_depth, 1, CHUNK).to(tl.float32)
            moved = load_rows(slope, at, r_there, first, column_depth, 1, CHUNK).to(tl.float32)
            mean += tl.sum(result * moved, 1)
    own = (entity * heads + head) * row_count + r_token
    if weights_out is not None or weights_slope is not None:
        shift = tl.load(log_sum + own, mask=r_there, other=float("inf"))
        row_at = entity * row_b + r_token * row_n + head * depth * row_d
        for first in range(0, column_count, COLUMNS):
            c_token = (first + tl.arange(0, COLUMNS)).to(tl.int64)
            c_inside = c_token < column_count
            c_there = present(column_mask, entity, c_token, c_inside, column_mask_b, column_mask_n)
            column_at = entity * column_b + c_token * column_n + head * depth * column_d
            scores = scale * products(
                None, row, row_at, r_there, row_d, column, column_at, c_there, column_d, depth,
                CHUNK, PRECISION,
            )  # fmt: skip
            there = r_there[:, None] & c_there[None, :]
            weights = tl.where(there, tl.exp(scores - shift[:, None]), 0.0)
            number = own[:, None] * column_count + c_token[None, :]
            if seed is not None:
                weights *= dropout(number, seed, threshold, factor)
            if weights_out is not None:
                inside = r_inside[:, None] & c_inside[None, :]
                tl.store(weights_out + number, weights, mask=inside)
            if weights_slope is not None:
                mean += tl.sum(weights * tl.load(weights_slope + number, mask=there, other=0), 1)
    if mean_out is not None:
        tl.store(mean_out + own, mean, mask=r_inside)


@triton.jit
def _toward_scores(weights, slopes, extra, factors, mean):
    """The gradient of a softmax's scores, from that of the products of its weights."""
    if extra is not None:
        slopes += extra
    if factors is not None:
        slopes *= factors
    return weights * (slopes - mean)


@triton.jit
def _backward(
    grad, grad_value, row_slope, column_slope, row_log_sum, column_log_sum, row_mean, column_mean,
    weights_slope,
    row, column, row_value, column_value, row_mask, column_mask, seed,
    entities, heads, row_count, column_count, depth, row_depth, column_depth,
    row_b, row_n, row_d, column_b, column_n, column_d,
    row_value_b, row_value_n, row_value_d, column_value_b, column_value_n, column_value_d,
    row_mask_b, row_mask_n, column_mask_b, column_mask_n, scale, threshold, factor,
    SWAPPED: tl.constexpr, ROW_IS_VALUE: tl.constexpr,
    ONE_CHUNK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of the rows, and, if it has a place of its own, that of their values.

    `row_slope` is the gradient of what the rows' softmax made, None where they have none, and
    `column_slope` that of the columns'. Dropout and `weights_slope` belong to whichever there is:
    to the columns' where `SWAPPED`.
    """
    widest = depth
    if grad_value is not None:
        widest = tl.maximum(depth, row_depth)
    r_token, piece, head, entity = _place(row_count, tl.cdiv(widest, CHUNK), heads, ROWS)
    r_inside = r_token < row_count
    r_there = present(row_mask, entity, r_token, r_inside, row_mask_b, row_mask_n)
    row_at = entity * row_b + r_token * row_n + head * depth * row_d
    value_at = entity * row_value_b + r_token * row_value_n + head * row_depth * row_value_d
    unit = entity * heads + head
    r_own = unit * row_count + r_token
    slope_at = (entity * row_count + r_token) * heads * column_depth + head * column_depth
    rows, slopes, values = None, None, None
    if ONE_CHUNK:
        rows = load_rows(row, row_at, r_there, 0, depth, row_d, CHUNK)
    if row_slope is not None:
        r_shift = tl.load(row_log_sum + r_own, mask=r_there, other=float("inf"))
        r_mean = tl.load(row_mean + r_own, mask=r_there, other=0)
        if ONE_CHUNK:
            slopes = load_rows(row_slope, slope_at, r_there, 0, column_depth, 1, CHUNK)
    if column_slope is not None and ONE_CHUNK:
        values = load_rows(row_value, value_at, r_there, 0, row_depth, row_value_d, CHUNK)
    sums = tl.zeros([ROWS, CHUNK], tl.float32)
    value_sums = tl.zeros([ROWS, CHUNK], tl.float32)
    for first in range(0, column_count, COLUMNS):
        c_token = (first + tl.arange(0, COLUMNS)).to(tl.int64)
        c_there = present(
            column_mask, entity, c_token, c_token < column_count, column_mask_b, column_mask_n
        )
        there = r_there[:, None] & c_there[None, :]
        column_at = entity * column_b + c_token * column_n + head * depth * column_d
        scores = scale * products(
            rows, row, row_at, r_there, row_d, column, column_at, c_there, column_d, depth,
            CHUNK, PRECISION,
        )  # fmt: skip
        number = _numbers(entity, head, heads, r_token, c_token, row_count, column_count, SWAPPED)
        factors = None
        if seed is not None:
            factors = dropout(number, seed, threshold, factor)
        extra = None
        if weights_slope is not None:
            extra = tl.load(weights_slope + number, mask=there, other=0)
        score_slopes = tl.zeros([ROWS, COLUMNS], tl.float32)
        if row_slope is not None:
            c_value_at = entity * column_value_b + c_token * column_value_n
            c_value_at += head * column_depth * column_value_d
            raw = products(
                slopes, row_slope, slope_at, r_there, 1, column_value, c_value_at, c_there,
                column_value_d, column_depth, CHUNK, PRECISION,
            )  # fmt: skip
            weights = tl.where(there, tl.exp(scores - r_shift[:, None]), 0.0)
            score_slopes += _toward_scores(weights, raw, extra, factors, r_mean[:, None])
        if column_slope is not None:
            c_slope_at = (entity * column_count + c_token) * heads * row_depth + head * row_depth
            raw = products(
                values, row_value, value_at, r_there, row_value_d, column_slope, c_slope_at,
                c_there, 1, row_depth, CHUNK, PRECISION,
            )  # fmt: skip
            c_own = unit * column_count + c_token
            c_shift = tl.load(column_log_sum + c_own, mask=c_there, other=float("inf"))
            c_mean = tl.load(column_mean + c_own, mask=c_there, other=0)
            weights = tl.where(there, tl.exp(scores - c_shift[None, :]), 0.0)
            score_slopes += _toward_scores(weights, raw, extra, factors, c_mean[None, :])
            if factors is not None:
                weights *= factors
            if grad_value is not None:
                value_sums = add_weighted(
                    value_sums, weights, column_slope, c_slope_at, c_there, piece * CHUNK,
                    row_depth, 1, CHUNK, PRECISION,
                )  # fmt: skip
            elif ROW_IS_VALUE:
                sums = add_weighted(
                    sums, weights, column_slope, c_slope_at, c_there, piece * CHUNK, row_depth, 1,
                    CHUNK, PRECISION,
                )  # fmt: skip
        if grad is not None:
            sums = add_weighted(
                sums, scale * score_slopes, column, column_at, c_there, piece * CHUNK, depth,
                column_d, CHUNK, PRECISION,
            )  # fmt: skip
    own = entity * row_count + r_token
    if grad is not None:
        at = own * heads * depth + head * depth
        store_rows(grad, at, r_inside, piece * CHUNK, depth, sums, CHUNK)
    if grad_value is not None:
        at = own * heads * row_depth + head * row_depth
        store_rows(grad_value, at, r_inside, piece * CHUNK, row_depth, value_sums, CHUNK)


def _tile(pairing: Pairing) -> dict[str, Any]:
    """Rows by columns by features, by the rows there are and the width of a head.

    Rows from 64 on are what the matrix instructions of sm_90 and later take. With chunks of 128
    features the backward pass holds two sums of 64 x 128, which is why its columns are few; exact
    float32 products have their operands in registers. A second stage of the loop is memory that
    the backward pass of both ways has not, with twice the tiles in the 99 KiB of an sm_120.
    """
    features = chunk(*pairing.tensors, heads=pairing.heads)
    exact = pairing.dtype == torch.float32
    most = 32 if exact else 64
    rows = max(16, min(most, triton.next_power_of_2(pairing.rows.tokens.shape[1])))
    return {
        "ONE_CHUNK": max(pairing.widths) <= features,
        "ROWS": rows,
        "COLUMNS": 32 if exact or features > 64 else 64,
        "CHUNK": features,
        "PRECISION": precision(pairing.dtype),
        "num_warps": 8 if exact else 4,
        "num_stages": 1 if exact else 2,
    }


def _grid(pairing: Pairing, rows: int, width: int, chunk_size: int) -> tuple[int]:
    blocks = triton.cdiv(pairing.rows.tokens.shape[1], rows)
    return (blocks * max(triton.cdiv(width, chunk_size), 1) * pairing.heads * pairing.entities,)


def forward(
    pairing: Pairing,
    row_out: Tensor,
    column_out: Tensor | None,
    row_log_sum: Tensor,
    column_log_sum: Tensor | None,
    weights: Tensor | None,
) -> None:
    """What the rows attend to and, with `column_out`, the columns; weights are of the rows."""
    tile = _tile(pairing)
    grid = _grid(pairing, tile["ROWS"], pairing.widths[2], tile["CHUNK"])
    launch(_forward, grid, row_out, row_log_sum, *pairing.arguments(), **tile)
    if weights is not None:
        _after(pairing, row_log_sum, weights, None, None, None, None)
    if column_out is not None and column_log_sum is not None:
        forward(pairing.swapped, column_out, None, column_log_sum, None, None)


def _after(
    pairing: Pairing,
    log_sum: Tensor,
    weights: Tensor | None,
    mean: Tensor | None,
    out: Tensor | None,
    slope: Tensor | None,
    weights_slope: Tensor | None,
) -> None:
    tile = _tile(pairing)
    grid = _grid(pairing, tile["ROWS"], 1, 1)
    tensors = (weights, mean, log_sum, out, slope, weights_slope)
    launch(_weights, grid, *tensors, *pairing.arguments(), **tile)


def backward(
    pairing: Pairing,
    grads: Sequence[Tensor | None],
    slopes: tuple[Tensor, Tensor | None, Tensor | None],
    results: tuple[Tensor, Tensor | None],
    log_sums: tuple[Tensor, Tensor | None],
) -> None:
    """Writes `grads`, of rows, columns and their values, from those of the results and weights."""
    *sides, weights_slope = slopes
    means: list[Tensor | None] = [None, None]
    for i, side in enumerate((pairing, pairing.swapped)):
        slope, log_sum = sides[i], log_sums[i]
        if slope is not None and log_sum is not None:
            means[i] = torch.empty_like(log_sum)
            extra = weights_slope if i == 0 else None
            _after(side, log_sum, None, means[i], results[i], slope, extra)
    for i, side in enumerate((pairing, pairing.swapped)):
        grad, grad_value = grads[i], grads[i + 2]
        if grad is None and grad_value is None:
            continue
        order = (0, 1) if i == 0 else (1, 0)
        kept = [pair[j] for pair in (sides, log_sums, means) for j in order]
        tile = _tile(side)
        if all(mean is not None for mean in means):
            tile["num_stages"] = 1
        width = max(side.widths[0], side.widths[1] if grad_value is not None else 0)
        launch(
            _backward,
            _grid(side, tile["ROWS"], width, tile["CHUNK"]),
            grad,
            grad_value,
            *kept,
            weights_slope,
            *side.arguments(),
            SWAPPED=i == 1,
            ROW_IS_VALUE=side.rows.value is None,
            **tile,
        )
