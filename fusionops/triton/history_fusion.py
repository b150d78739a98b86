"""history_fusion in Triton: a program a history, or a part of one where there are few.

A program has a tile of rows by all features. Each row of the tile keeps a sum of its own, and with
a query a softmax of its own, as if the history were dealt out to them; they come together once, at
the end. So the only thing that crosses a row's lanes on the way is its product with the query.
Memory limits it: each row is read once, backward with a query twice, the second time from cache.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton._launch import launch
from fusionops.triton._softmax import finite_peak, reciprocal
from fusionops.triton._table_gradient import table_gradient

_SUMS = torch.float32
_TILE = 2048  # elements of a tile: sixteen a thread of four warps, which leaves room for many
_MOST_ROWS = 32
# Programs that keep a large GPU busy; fewer histories are cut into parts of at least _LEAST_PART
# entries on average. By the shape alone, so that bits depend on nothing else.
_PROGRAMS = 1024
_LEAST_PART = 128
_MOST_PARTS = 64


@triton.jit
def _part(offsets, entries, PARTS: tl.constexpr):
    """A program's history, its length, and the entries ``[begin, end)`` of its part of it.

    Offsets that do not rise from 0 to the number of entries cannot be told without a wait for the
    GPU: they are kept within what there is to read.
    """
    history = (tl.program_id(0) // PARTS).to(tl.int64)
    first, last = tl.load(offsets + history), tl.load(offsets + history + 1)
    first = tl.minimum(tl.maximum(first.to(tl.int64), 0), entries)
    last = tl.minimum(tl.maximum(last.to(tl.int64), first), entries)
    run = tl.cdiv(last - first, PARTS)
    begin = tl.minimum(first + (tl.program_id(0) % PARTS) * run, last)
    return history, last - first, begin, tl.minimum(begin + run, last)


@triton.jit
def _rows(values, ids, entry, end, table, width, values_n, values_d, WIDTH: tl.constexpr):
    """The rows of entries before `end`, which of them there are, and their numbers.

    An id that is not in the table has no row.
    """
    there = entry < end
    row = entry
    if ids is not None:
        row = tl.load(ids + entry, mask=there, other=-1).to(tl.int64)
        there = there & (row >= 0) & (row < table)
    column = tl.arange(0, WIDTH).to(tl.int64)
    place = values + row[:, None] * values_n + column[None, :] * values_d
    tile = tl.load(place, mask=there[:, None] & (column < width)[None, :], other=0)
    return tile.to(tl.float32), there


@triton.jit
def _vector(base, row, stride_n, stride_d, width, WIDTH: tl.constexpr):
    column = tl.arange(0, WIDTH).to(tl.int64)
    place = base + row * stride_n + column * stride_d
    return tl.load(place, mask=column < width, other=0).to(tl.float32)


@triton.jit
def _together(peaks, totals, sums):
    """The softmaxes of the rows of a tile as one: its peak, its total and its sum."""
    peak = tl.max(peaks, 0)
    shrunk = tl.exp(peaks - finite_peak(peak))
    return peak, tl.sum(totals * shrunk, 0), tl.sum(sums * shrunk[:, None], 0)


@triton.jit
def _finish(
    out, statistics, query, weights, history, histories, length, peak, total, sums, width,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """Writes the result of a history from its sum, and its softmax's peak and total."""
    if query is not None:
        sums *= reciprocal(total)
        tl.store(statistics + history, finite_peak(peak))
        tl.store(statistics + histories + history, total)
    elif weights is None:
        sums *= reciprocal(length.to(tl.float32))
    column = tl.arange(0, WIDTH)
    place = out + history * width + column
    tl.store(place, sums.to(out.dtype.element_ty), mask=column < width)


@triton.jit
def _forward(
    out, statistics, part_sums, part_states, values, offsets, query, weights, ids,
    histories, entries, table, width, values_n, values_d, query_b, query_d, weights_t, scale,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    history, length, begin, end = _part(offsets, entries, PARTS)
    peaks = tl.full([ROWS], -float("inf"), tl.float32)
    totals = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    if query is not None:
        asked = _vector(query, history, query_b, query_d, width, WIDTH)
    for first in range(begin, end, ROWS):
        entry = first + tl.arange(0, ROWS)
        tile, there = _rows(values, ids, entry, end, table, width, values_n, values_d, WIDTH)
        if query is not None:
            scores = tl.sum(tile * asked[None, :], 1) * scale
            scores = tl.where(there, scores, -float("inf"))
            risen = tl.maximum(peaks, scores)
            shift = finite_peak(risen)
            factors = tl.exp(scores - shift)
            shrunk = tl.exp(peaks - shift)
            peaks, totals = risen, totals * shrunk + factors
            sums = sums * shrunk[:, None] + factors[:, None] * tile
        elif weights is not None:
            factors = tl.load(weights + entry * weights_t, mask=there, other=0)
            sums += factors[:, None] * tile
        else:
            sums += tile
    peak, total, summed = 0.0, 0.0, tl.sum(sums, 0)
    if query is not None:
        peak, total, summed = _together(peaks, totals, sums)
    if PARTS == 1:
        _finish(
            out, statistics, query, weights, history, histories, length, peak, total, summed,
            width, WIDTH,
        )  # fmt: skip
    else:
        part = tl.program_id(0).to(tl.int64)
        column = tl.arange(0, WIDTH)
        tl.store(part_sums + part * width + column, summed, mask=column < width)
        if query is not None:
            tl.store(part_states + part, peak)
            tl.store(part_states + histories * PARTS + part, total)


@triton.jit
def _join(
    out, statistics, part_sums, part_states, offsets, query, weights, histories, width,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """A history from its parts, in their order."""
    history = tl.program_id(0).to(tl.int64)
    length = tl.load(offsets + history + 1) - tl.load(offsets + history)
    column = tl.arange(0, WIDTH)
    peak, total, summed = 0.0, 0.0, tl.zeros([WIDTH], tl.float32)
    part = history * PARTS + tl.arange(0, PARTS)
    if query is not None:
        peaks = tl.load(part_states + part)
        peak = tl.max(peaks, 0)
        totals = tl.load(part_states + histories * PARTS + part)
        total = tl.sum(totals * tl.exp(peaks - finite_peak(peak)), 0)
    for first in range(0, PARTS, ROWS):
        row = history * PARTS + first + tl.arange(0, ROWS)
        place = part_sums + row[:, None] * width + column[None, :]
        tile = tl.load(place, mask=(column < width)[None, :] & (row >= 0)[:, None], other=0)
        if query is not None:
            tile *= tl.exp(tl.load(part_states + row) - finite_peak(peak))[:, None]
        summed += tl.sum(tile, 0)
    _finish(
        out, statistics, query, weights, history, histories, length, peak, total, summed, width,
        WIDTH,
    )  # fmt: skip


@triton.jit
def _mean_of(
    grad, statistics, values, offsets, query, ids,
    histories, entries, table, width, grad_b, grad_d, values_n, values_d, query_b, query_d, scale,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """A part of the mean, by the softmax, of the products of a history's rows with its gradient.

    It is what the gradient of the softmax subtracts.
    """
    history, _, begin, end = _part(offsets, entries, PARTS)
    slope = _vector(grad, history, grad_b, grad_d, width, WIDTH)
    asked = _vector(query, history, query_b, query_d, width, WIDTH)
    peak = tl.load(statistics + history)
    means = tl.zeros([ROWS], tl.float32)
    for first in range(begin, end, ROWS):
        entry = first + tl.arange(0, ROWS)
        tile, there = _rows(values, ids, entry, end, table, width, values_n, values_d, WIDTH)
        scores = tl.sum(tile * asked[None, :], 1) * scale
        powers = tl.where(there, tl.exp(scores - peak), 0.0)
        means += powers * tl.sum(tile * slope[None, :], 1)
    return tl.sum(means, 0) * reciprocal(tl.load(statistics + histories + history))


@triton.jit
def _part_means(
    means, grad, statistics, values, offsets, query, ids,
    histories, entries, table, width, grad_b, grad_d, values_n, values_d, query_b, query_d, scale,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    mean = _mean_of(
        grad, statistics, values, offsets, query, ids, histories, entries, table, width,
        grad_b, grad_d, values_n, values_d, query_b, query_d, scale, PARTS, ROWS, WIDTH,
    )  # fmt: skip
    tl.store(means + tl.program_id(0), mean)


@triton.jit
def _backward(
    grad_values, part_grad_query, grad_weights, owners, factors_out, slopes_out, means,
    grad, statistics, values, offsets, query, weights, ids,
    histories, entries, table, width, grad_b, grad_d, values_n, values_d, query_b, query_d,
    weights_t, scale,
    PARTS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The gradients of a part of a history.

    That of a row is its factor times the history's gradient and, with a query, its score's slope
    times the query. Toward a table the two numbers are kept for the sum by ids instead, with the
    history that an entry belongs to.
    """
    history, length, begin, end = _part(offsets, entries, PARTS)
    slope = _vector(grad, history, grad_b, grad_d, width, WIDTH)
    column = tl.arange(0, WIDTH)
    if query is not None:
        asked = _vector(query, history, query_b, query_d, width, WIDTH)
        peak = tl.load(statistics + history)
        share = reciprocal(tl.load(statistics + histories + history))
        if means is not None:
            mean = tl.sum(tl.load(means + history * PARTS + tl.arange(0, PARTS)), 0)
        else:
            mean = _mean_of(
                grad, statistics, values, offsets, query, ids, histories, entries, table, width,
                grad_b, grad_d, values_n, values_d, query_b, query_d, scale, PARTS, ROWS, WIDTH,
            )  # fmt: skip
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in range(begin, end, ROWS):
        entry = first + tl.arange(0, ROWS)
        inside = entry < end
        if query is not None or grad_weights is not None:
            tile, there = _rows(values, ids, entry, end, table, width, values_n, values_d, WIDTH)
            products = tl.sum(tile * slope[None, :], 1)
        if grad_weights is not None:
            tl.store(grad_weights + entry, products, mask=inside)
        if query is not None:
            scores = tl.sum(tile * asked[None, :], 1) * scale
            factors = tl.where(there, tl.exp(scores - peak) * share, 0.0)
            slopes = factors * (products - mean) * scale
            sums += slopes[:, None] * tile
        elif weights is not None:
            factors = tl.load(weights + entry * weights_t, mask=inside, other=0)
        else:
            factors = tl.zeros([ROWS], tl.float32) + reciprocal(length.to(tl.float32))
        if grad_values is not None:
            moved = factors[:, None] * slope[None, :]
            if query is not None:
                moved += slopes[:, None] * asked[None, :]
            place = grad_values + entry[:, None] * width + column[None, :]
            wanted = inside[:, None] & (column < width)[None, :]
            tl.store(place, moved.to(grad_values.dtype.element_ty), mask=wanted)
        if owners is not None:
            tl.store(owners + entry, tl.zeros([ROWS], tl.int64) + history, mask=inside)
            tl.store(factors_out + entry, factors, mask=inside)
            if query is not None:
                tl.store(slopes_out + entry, slopes, mask=inside)
    if part_grad_query is not None:
        place = part_grad_query + tl.program_id(0).to(tl.int64) * width + column
        moved = tl.sum(sums, 0).to(part_grad_query.dtype.element_ty)
        tl.store(place, moved, mask=column < width)


def _tile(histories: int, entries: int, width: int) -> dict[str, Any]:
    mean = triton.cdiv(entries, max(histories, 1))
    columns = triton.next_power_of_2(max(width, 1))
    rows = min(max(1, _TILE // columns), _MOST_ROWS, triton.next_power_of_2(max(mean, 1)))
    wanted = min(_PROGRAMS // max(histories, 1), mean // _LEAST_PART, _MOST_PARTS)
    parts = triton.next_power_of_2(wanted + 1) // 2 if wanted > 1 else 1
    warps = min(max(1, rows * columns // 512), 4)
    return {"PARTS": parts, "ROWS": rows, "WIDTH": columns, "num_warps": warps}


def _scale(width: int) -> float:
    return float(max(width, 1) ** -0.5)


def _strides(query: Tensor | None) -> tuple[int, int]:
    return (0, 0) if query is None else (query.stride(0), query.stride(1))


def history_fusion(
    values: Tensor,
    offsets: Tensor,
    query: Tensor | None,
    weights: Tensor | None,
    ids: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """``fusionops::history_fusion``; see ``csrc/torch/schemas.h``."""
    histories, (table, width) = offsets.shape[0] - 1, values.shape
    entries = table if ids is None else ids.shape[0]
    out = values.new_empty((histories, width))
    statistics = values.new_empty((2, 0 if query is None else histories), dtype=_SUMS)
    if histories == 0:
        return out, statistics
    offsets, ids = offsets.contiguous(), None if ids is None else ids.contiguous()
    tile = _tile(histories, entries, width)
    parts = tile["PARTS"]
    part_sums = part_states = None
    if parts > 1:
        part_sums = values.new_empty((histories, parts, width), dtype=_SUMS)
        part_states = values.new_empty((2, histories, parts), dtype=_SUMS)
    launch(
        _forward, (histories * parts,), out, statistics, part_sums, part_states,
        values, offsets, query, weights, ids, histories, entries, table, width,
        *values.stride(), *_strides(query), 0 if weights is None else weights.stride(0),
        _scale(width), **tile,
    )  # fmt: skip
    if parts > 1:
        tile["ROWS"] = min(tile["ROWS"], parts)
        launch(
            _join, (histories,), out, statistics, part_sums, part_states, offsets, query, weights,
            histories, width, **tile,
        )  # fmt: skip
    return out, statistics


def history_fusion_backward(
    grad: Tensor,
    statistics: Tensor,
    values: Tensor,
    offsets: Tensor,
    query: Tensor | None,
    weights: Tensor | None,
    ids: Tensor | None,
    values_wanted: bool,
    query_wanted: bool,
    weights_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """``fusionops::history_fusion_backward``; see ``csrc/torch/schemas.h``."""
    histories, (table, width) = offsets.shape[0] - 1, values.shape
    entries = table if ids is None else ids.shape[0]
    query_wanted = query_wanted and query is not None
    weights_wanted = weights_wanted and weights is not None
    tile = _tile(histories, entries, width)
    parts = tile["PARTS"]
    listed = values_wanted and ids is not None
    rows = values.new_empty((table if values_wanted and not listed else 0, width))
    asked = values.new_empty(
        (histories if query_wanted else 0, parts, width),
        dtype=_SUMS if parts > 1 else values.dtype,
    )
    weighed = values.new_empty((entries if weights_wanted else 0,), dtype=_SUMS)
    # Of entries that belong to no history, which wrong offsets leave over, nothing is known.
    owners = offsets.new_zeros((entries,), dtype=torch.int64) if listed else None
    factors = values.new_zeros((entries,), dtype=_SUMS) if listed else None
    slopes = torch.zeros_like(factors) if factors is not None and query is not None else None
    offsets, ids = offsets.contiguous(), None if ids is None else ids.contiguous()
    sizes = (
        histories, entries, table, width,
        *grad.stride(), *values.stride(), *_strides(query),
    )  # fmt: skip
    if histories and entries and (values_wanted or query_wanted or weights_wanted):
        means = None
        if query is not None and parts > 1:
            means = values.new_empty((histories, parts), dtype=_SUMS)
            launch(
                _part_means, (histories * parts,), means, grad, statistics, values, offsets, query,
                ids, *sizes, _scale(width), **tile,
            )  # fmt: skip
        launch(
            _backward, (histories * parts,), rows if values_wanted and not listed else None,
            asked if query_wanted else None, weighed if weights_wanted else None,
            owners, factors, slopes, means,
            grad, statistics, values, offsets, query, weights, ids, *sizes,
            0 if weights is None else weights.stride(0), _scale(width), **tile,
        )  # fmt: skip
    elif query_wanted:
        asked.zero_()
    if ids is not None and owners is not None and factors is not None:
        rows = table_gradient(ids, owners, factors, slopes, grad, query, values)
    return rows, asked.sum(1).to(values.dtype) if parts > 1 else asked[:, 0], weighed
