"""Cross-entropy of the rows of logits that are never stored, by two numbers a row.

A program has a block of left rows and walks a run of right rows: of each row it keeps the highest
logit, and the sum of ``exp(logit - peak)``. Few left rows are cut into several runs, whose pairs a
second kernel merges in ascending order. The logits of the targets are products of tiles too, in the
same arithmetic: a small loss is a small difference.
Bound: ``2 L R D`` operations on the tensor cores, and ``L R`` exponentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton import _launch
from fusionops.triton._dots import arithmetic, kind_of, power_of_two, splits
from fusionops.triton._lists import Lists, mark, open_lists
from fusionops.triton._logits import Side, left_block, logits_tile, per_row, products

_LEAST_RUN = 1024  # right rows worth a program
_ROWS = 64  # of a program that has a few operations a row

# Up to which width: left rows, right rows, features of a tile, warps and stages. Up to the width of
# the tile a left block is loaded once and right rows arrive whole, through shared memory, of which
# an sm_120 has 99 KiB: wider ones come a few features at a time. Exact float32 passes through
# registers, and has small tiles.
_TILES = {
    "half": ((64, 128, 128, 64, 8, 3), (128, 128, 64, 128, 8, 3), (256, 64, 64, 256, 4, 2)),
    "tf32": ((64, 128, 64, 64, 8, 3), (128, 64, 64, 128, 4, 2)),
    "ieee": (),
}
_WIDE = {"half": (128, 64, 64, 8, 3), "tf32": (64, 64, 32, 4, 3), "ieee": (64, 64, 16, 4, 2)}


@triton.jit
def _target_kernel(
    left, right, left_scale, right_scale, right_bias, target, logits, L, R, width,
    left_row_stride, left_column_stride, right_row_stride, right_column_stride,
    ROWS: tl.constexpr, DEPTH: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The logit of each row's target: the diagonal of a tile; NaN for one that is no row."""
    left_side = (left, left_row_stride, left_column_stride)
    right_side = (right, right_row_stride, right_column_stride)
    at = tl.arange(0, ROWS)
    i = tl.program_id(0) * ROWS + at
    j = tl.load(target + i, mask=i < L, other=-1)
    found = (j >= 0) & (j < R)
    x = products(left_side, right_side, i, i < L, j, found, width, DEPTH, DTYPE, PRECISION)
    x = tl.sum(tl.where(at[:, None] == at[None, :], x, 0.0), 1)
    x = x * per_row(left_scale, i, i < L, 1.0) * per_row(right_scale, j, found, 1.0)
    x += per_row(right_bias, j, found, 0.0)
    tl.store(logits + i, tl.where(found, x, float("nan")), mask=i < L)


@triton.jit
def _rows_kernel(
    left, right, left_scale, right_scale, right_bias, left_ids, right_ids, keys, starts, origins,
    parts, L, R, width, run,
    left_row_stride, left_column_stride, right_row_stride, right_column_stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, WHOLE: tl.constexpr,
    DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Peak and total of each left row in a run, and with origins the sum of logits less these."""
    left_side = (left, left_row_stride, left_column_stride, left_scale, None, left_ids)
    right_side = (right, right_row_stride, right_column_stride, right_scale, right_bias, right_ids)
    part = tl.program_id(1)
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    i_there = i < L
    block = left_block(left_side, i, i_there, width, WHOLE, DEPTH, DTYPE)
    if keys is not None:
        first, cursor, key = open_lists(keys, starts, part, i, i_there, L, R, COLUMNS)
    if origins is not None:
        origin = per_row(origins, i, i_there, 0.0)
    # The lowest number, and not -inf, which minus itself is NaN.
    peak = tl.full([ROWS], -3.4028234663852886e38, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS], tl.float32)
    end = min(R, part * run + run)
    for start in range(part * run, end, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        z, gone, _, _ = logits_tile(
            left_side, right_side, block, i, i_there, j, j < end, width,
            WHOLE, DEPTH, DTYPE, PRECISION,
        )  # fmt: skip
        if keys is not None:
            gone, cursor, key = mark(gone, keys, cursor, key, first, start, COLUMNS)
        if origins is not None:
            sums += tl.sum(tl.where(gone, 0.0, z - origin[:, None]), 1)
        z = tl.where(gone, -float("inf"), z)
        risen = tl.maximum(peak, tl.max(z, 1))
        total = total * tl.exp(peak - risen) + tl.sum(tl.exp(z - risen[:, None]), 1)
        peak = risen
    parts += part.to(tl.int64) * 3 * L
    tl.store(parts + i, peak, mask=i_there)
    tl.store(parts + L + i, total, mask=i_there)
    if origins is not None:
        tl.store(parts + 2 * L + i, sums, mask=i_there)


@triton.jit
def _losses_kernel(
    parts, logits, target, kept, losses, statistics, L, R, count, smoothing, ignore_index,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Losses and statistics of rows from the parts of their runs, in ascending order."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = i < L
    peak = tl.full([ROWS], -3.4028234663852886e38, tl.float32)
    for part in range(count):
        peak = tl.maximum(peak, tl.load(parts + part * 3 * L + i, mask=there, other=0.0))
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS], tl.float32)
    for part in range(count):
        shift = tl.load(parts + part * 3 * L + i, mask=there, other=0.0) - peak
        total += tl.load(parts + (part * 3 + 1) * L + i, mask=there, other=1.0) * tl.exp(shift)
        if kept is not None:
            sums += tl.load(parts + (part * 3 + 2) * L + i, mask=there, other=0.0)
    x = tl.load(logits + i, mask=there, other=0.0).to(tl.float64)
    # The peak and the target first, and all in double: a small loss is a small difference.
    loss = peak.to(tl.float64) - x + tl.log(total.to(tl.float64))
    if kept is not None:
        loss -= smoothing * (sums / tl.load(kept + i, mask=there, other=1.0)).to(tl.float64)
    own = tl.load(target + i, mask=there, other=0)
    ignored = own == ignore_index
    # Without a target there is no loss, and no gradient either: NaN, through the total.
    lost = (own < 0) | (own >= R)
    total = tl.where(ignored, 1.0, tl.where(lost, float("nan"), total))
    tl.store(losses + i, tl.where(ignored, 0.0, loss).to(tl.float32), mask=there)
    tl.store(statistics + i, tl.where(ignored | lost, 0.0, peak), mask=there)
    tl.store(statistics + L + i, total, mask=there)


def tiles_for(
    tiles: Mapping[str, tuple[tuple[int, ...], ...]],
    wide: Mapping[str, tuple[int, ...]],
    kind: str,
    width: int,
) -> tuple[bool, list[int]]:
    """The row of a table that a width falls in, and whether its rows are loaded whole."""
    for most, *row in tiles[kind]:
        if width <= most:
            return True, row
    return False, list(wide[kind])


def losses_of(
    left: Side,
    right: Side,
    target: Tensor,
    lists: Lists | None,
    label_smoothing: float,
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """Losses ``[L]`` and statistics ``[2, L]`` of the softmax of each left row over right rows."""
    rows = left.vectors.shape[0]
    loss = left.vectors.new_empty((rows,), dtype=torch.float32)
    statistics = loss.new_empty((2, rows))
    if rows == 0:
        return loss, statistics
    meta = arithmetic(left.vectors, right.vectors)
    logits = _target_logits(left, right, target, meta)
    smooth = label_smoothing > 0
    parts = _parts(left, right, lists, logits if smooth else None, meta)
    _launch.launch(
        _losses_kernel, (triton.cdiv(rows, _ROWS),),
        parts, logits, target, kept_columns(lists, left, right) if smooth else None,
        loss, statistics, rows, right.vectors.shape[0], parts.shape[0],
        float(label_smoothing), ignore_index,
        ROWS=_ROWS, num_warps=2,
    )  # fmt: skip
    return loss, statistics


def kept_columns(lists: Lists | None, left: Side, right: Side) -> Tensor:
    """How many right rows each left row has in its softmax, in float32."""
    if lists is not None:
        return lists.kept()
    rows, columns = left.vectors.shape[0], right.vectors.shape[0]
    return left.vectors.new_full((rows,), float(columns), dtype=torch.float32)


def _target_logits(left: Side, right: Side, target: Tensor, meta: dict[str, Any]) -> Tensor:
    rows, width = left.vectors.shape
    logits = left.vectors.new_empty((rows,), dtype=torch.float32)
    _launch.launch(
        _target_kernel, (triton.cdiv(rows, _ROWS),),
        left.vectors, right.vectors, left.scale, right.scale, right.bias, target, logits,
        rows, right.vectors.shape[0], width, *left.vectors.stride(), *right.vectors.stride(),
        ROWS=_ROWS, DEPTH=power_of_two(width, 16, _WIDE[kind_of(meta)][2]), **meta,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return logits


def _parts(
    left: Side, right: Side, lists: Lists | None, origins: Tensor | None, meta: dict[str, Any]
) -> Tensor:
    """``[runs, 3, L]``: peaks, totals, and, less `origins`, sums of logits."""
    (rows, width), columns = left.vectors.shape, right.vectors.shape[0]
    whole, (most, step, depth, warps, stages) = tiles_for(_TILES, _WIDE, kind_of(meta), width)
    height = power_of_two(rows, 16, most)
    blocks = triton.cdiv(rows, height)
    runs, run = splits(blocks, columns, _LEAST_RUN, step)
    parts = left.vectors.new_empty((runs, 3, rows), dtype=torch.float32)
    _launch.launch(
        _rows_kernel, (blocks, runs),
        left.vectors, right.vectors, left.scale, right.scale, right.bias, left.ids, right.ids,
        None if lists is None else lists.keys,
        None if lists is None else lists.starts(runs, run),
        origins, parts, rows, columns, width, run,
        *left.vectors.stride(), *right.vectors.stride(),
        ROWS=height, COLUMNS=step, DEPTH=power_of_two(width, 16, depth), WHOLE=whole, **meta,
        num_warps=warps if height == most else 4, num_stages=stages,
    )  # fmt: skip
    return parts
