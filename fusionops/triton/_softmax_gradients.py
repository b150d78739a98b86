"""Gradients of cross-entropies toward one side of logits, which are made once more.

A program has a block of left rows and walks a run of right rows. Of each tile it makes the
gradients toward the logits,

    G[i, j] = grad (exp(z[i, j] - peak) / total - uniform - (1 - smoothing) [j is the target of i])

with the softmax along the left rows, along the right rows, or one of each (fusion_contrastive), 0
for pairs that are left out, and adds its product with the right rows to a sum in registers. Users
are the left side for their gradients, and the right side for those of the items: each sum is one
program's, or few programs', whose parts a second kernel adds in ascending order. That takes one
product more than to make G once, and neither atomics nor a ``U x P`` array.
Bound: ``4 L R D`` operations on the tensor cores, and ``L R`` exponentials.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton import _launch
from fusionops.triton._dots import (
    add_product,
    arithmetic,
    kind_of,
    power_of_two,
    splits,
)
from fusionops.triton._lists import Lists, mark, open_lists
from fusionops.triton._logits import Side, left_block, logits_tile, per_row, rows_of
from fusionops.triton._softmax_loss import tiles_for

_LEAST_RUN = 512  # right rows worth a program
_FINISH_ROWS, _FINISH_WIDTH = 16, 64  # of a program that adds parts

# As in _softmax_loss.py; the last number is how many columns of the gradient a program has, whose
# sums stay in registers. Wider ones are cut, and each piece makes the logits for itself.
_TILES = {
    "half": ((64, 128, 64, 64, 8, 3), (128, 64, 64, 128, 8, 3), (256, 64, 32, 256, 8, 3)),
    "tf32": ((64, 64, 32, 64, 4, 3), (128, 64, 32, 128, 4, 3)),
    "ieee": (),
}
_WIDE = {"half": (64, 64, 64, 4, 3), "tf32": (64, 32, 32, 4, 3), "ieee": (64, 16, 16, 4, 2)}
_WIDEST = {"half": 128, "tf32": 128, "ieee": 64}


class Softmax(NamedTuple):
    """What the gradient toward logits is made of, by row of the softmax, of either side."""

    grad: Tensor  # [N], of the losses
    statistics: Tensor  # [2, N], peaks and totals
    kept: Tensor | None  # [N], how many columns are in the softmax, where there is smoothing
    smoothing: float
    skip_below: float
    share: float = 1.0  # of the loss, which has the target's weight once in all


@triton.jit
def _finish(side, out, sums, i, there, live, first, width, COLUMNS: tl.constexpr):
    """Stores a piece of the gradients of rows, zeros for those that are not live.

    Returns its part of the gradients toward their scales.
    """
    columns = first + tl.arange(0, COLUMNS)
    sums = tl.where(live[:, None], sums, 0.0)
    scaled = sums * per_row(side[3], i, live, 1.0)[:, None]
    at = i.to(tl.int64)[:, None] * width + columns[None, :]
    inside = there[:, None] & (columns < width)[None, :]
    tl.store(out + at, scaled.to(out.dtype.element_ty), mask=inside)
    return tl.sum(rows_of(side, i, live, first, width, COLUMNS, tl.float32) * sums, 1)


@triton.jit
def _weights(softmax, rows, there, count, kept, smoothing, share, skip_below, AXIS: tl.constexpr):
    """Of a softmax by row or column, along AXIS of a tile: what stands in the formula of G.

    Peak, weight of an exponential, uniform part, weight of the target, and what matters at least.
    """
    grad = per_row(softmax[0], rows, there, 0.0)
    peak = per_row(softmax[1], rows, there, 0.0)
    total = tl.load(softmax[1] + count + rows, mask=there, other=1.0)
    uniform = tl.zeros_like(grad)
    if kept is not None:
        uniform = grad * smoothing / tl.load(kept + rows, mask=there, other=1.0)
    return (
        tl.expand_dims(peak, AXIS),
        tl.expand_dims(grad * share / total, AXIS),
        tl.expand_dims(uniform, AXIS),
        tl.expand_dims(grad * (1.0 - smoothing), AXIS),
        tl.expand_dims(skip_below * total, AXIS),
    )


@triton.jit
def _toward_logits(z, weights, hit):
    """The gradient toward logits by the softmax that has a target, and where it matters."""
    peak, weight, uniform, target_weight, least = weights
    power = tl.exp(z - peak)
    g = power * weight - uniform - tl.where(hit, target_weight, 0.0)
    return g, hit | ((power < least) == 0)  # so compared that NaN matters


@triton.jit
def _gradients_kernel(
    left, right, left_scale, right_scale, left_bias, right_bias, left_ids, right_ids,
    keys, starts, target, left_grad, left_statistics, right_grad, right_statistics, kept,
    out, out_scale, out_bias, L, R, width, run, smoothing, share, skip_below, ignore_index,
    left_row_stride, left_column_stride, right_row_stride, right_column_stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr,
    WHOLE: tl.constexpr, VECTORS: tl.constexpr, FINISHED: tl.constexpr, SKIP: tl.constexpr,
    DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`out` is the gradient itself where FINISHED, else parts ``[runs, L, width]``; so is bias."""
    left_side = (left, left_row_stride, left_column_stride, left_scale, left_bias, left_ids)
    right_side = (right, right_row_stride, right_column_stride, right_scale, right_bias, right_ids)
    part = tl.program_id(1)
    piece = tl.program_id(2) * WIDTH
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    i_in = i < L
    i_there = i_in
    if left_statistics is not None:
        own = tl.load(target + i, mask=i_in, other=ignore_index)
        # What stands in an ignored row is not read, as 0 times NaN would be NaN.
        i_there = i_in & (own != ignore_index)
        by_left = _weights(
            (left_grad, left_statistics), i, i_there, L, kept, smoothing, share, skip_below, 1
        )
    block = left_block(left_side, i, i_there, width, WHOLE, DEPTH, DTYPE)
    if keys is not None:
        first, cursor, key = open_lists(keys, starts, part, i, i_in, L, R, COLUMNS)
    sums = tl.zeros([ROWS, WIDTH], tl.float32)
    bias_sums = tl.zeros([ROWS], tl.float32)
    end = min(R, part * run + run)
    for start in range(part * run, end, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        j_there = j < end
        if left_statistics is None:
            j_own = tl.load(target + j, mask=j_there, other=ignore_index)
            j_there = j_there & (j_own != ignore_index)
        z, gone, y, j_scale = logits_tile(
            left_side, right_side, block, i, i_there, j, j_there, width,
            WHOLE, DEPTH, DTYPE, PRECISION,
        )  # fmt: skip
        if keys is not None:
            gone, cursor, key = mark(gone, keys, cursor, key, first, start, COLUMNS)
        if right_statistics is not None:
            by_right = _weights(
                (right_grad, right_statistics), j, j_there, R, kept, smoothing, share, skip_below, 0
            )
        if left_statistics is not None:
            g, matters = _toward_logits(z, by_left, own[:, None] == j[None, :])
            if right_statistics is not None:
                g += tl.exp(z - by_right[0]) * by_right[1]
        else:
            g, matters = _toward_logits(z, by_right, i[:, None] == j_own[None, :])
        g = tl.where(gone, 0.0, g)
        if out_bias is not None:
            bias_sums += tl.sum(g, 1)
        if VECTORS:
            g = g * j_scale[None, :]
            if not WHOLE:
                y = rows_of(right_side, j, j_there, piece, width, WIDTH, DTYPE)
            if SKIP:
                matters = matters & (gone == 0)
                if tl.max(tl.max(matters.to(tl.int32), 1), 0) != 0:
                    sums = add_product(sums, g, y, DTYPE, PRECISION)
            else:
                sums = add_product(sums, g, y, DTYPE, PRECISION)
    if out_bias is not None:
        tl.store(out_bias + part.to(tl.int64) * L + i, bias_sums, mask=i_in)
    if VECTORS and FINISHED:
        toward_scale = _finish(left_side, out, sums, i, i_in, i_there, piece, width, WIDTH)
        tl.store(out_scale + i, toward_scale, mask=i_in)
    elif VECTORS:
        columns = piece + tl.arange(0, WIDTH)
        at = (part.to(tl.int64) * L + i)[:, None] * width + columns[None, :]
        tl.store(out + at, sums, mask=i_in[:, None] & (columns < width)[None, :])


@triton.jit
def _finish_kernel(
    parts, bias_parts, vectors, scale, target, out, out_scale, out_bias, L, width, count,
    ignore_index, row_stride, column_stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, VECTORS: tl.constexpr,
):  # fmt: skip
    """Adds the parts of a block of rows in ascending order. Users have a target, items do not."""
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = i < L
    live = there
    if target is not None:
        live = there & (tl.load(target + i, mask=there, other=ignore_index) != ignore_index)
    if VECTORS:
        side = (vectors, row_stride, column_stride, scale)
        toward_scale = tl.zeros([ROWS], tl.float32)
        size = tl.full([], 1, tl.int64) * L * width
        for first in range(0, width, COLUMNS):
            columns = first + tl.arange(0, COLUMNS)
            at = i.to(tl.int64)[:, None] * width + columns[None, :]
            inside = there[:, None] & (columns < width)[None, :]
            sums = tl.zeros([ROWS, COLUMNS], tl.float32)
            piece = parts
            for _ in range(count):
                sums += tl.load(piece + at, mask=inside, other=0.0)
                piece += size
            toward_scale += _finish(side, out, sums, i, there, live, first, width, COLUMNS)
        tl.store(out_scale + i, toward_scale, mask=there)
    if bias_parts is not None:
        bias = tl.zeros([ROWS], tl.float32)
        for _ in range(count):
            bias += tl.load(bias_parts + i, mask=there, other=0.0)
            bias_parts += L
        tl.store(out_bias + i, bias, mask=there)


def gradients_of(
    left: Side,
    right: Side,
    along_left: Softmax | None,
    along_right: Softmax | None,
    target: Tensor,
    ignore_index: int,
    lists: Lists | None,
    wanted: bool,
    bias_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the left vectors, their scale and bias; empty where not wanted.

    Softmaxes are by left row, by right row, or both, and `target` belongs to the first there is.
    """
    (rows, width), columns = left.vectors.shape, right.vectors.shape[0]
    sums = torch.float32
    out = left.vectors.new_empty((rows if wanted else 0, width))
    out_scale = out.new_empty((rows if wanted else 0,), dtype=sums)
    out_bias = out.new_empty((rows if bias_wanted else 0,), dtype=sums)
    if rows == 0 or not (wanted or bias_wanted):
        return out, out_scale, out_bias
    meta = arithmetic(left.vectors, right.vectors)
    kind = kind_of(meta)
    whole, (most, step, depth, warps, stages) = tiles_for(_TILES, _WIDE, kind, width)
    height = power_of_two(rows, 16, most)
    depth = power_of_two(width, 16, depth)
    piece = depth if whole else power_of_two(width, 16, _WIDEST[kind])
    pieces = triton.cdiv(width, piece) if wanted else 1
    blocks = triton.cdiv(rows, height)
    runs, run = splits(blocks, columns, _LEAST_RUN, step)
    finished = runs == 1 and pieces == 1
    parts = out if finished or not wanted else out.new_empty((runs, rows, width), dtype=sums)
    bias_parts = out_bias if finished else out.new_empty((runs, rows), dtype=sums)
    softmax = along_left or along_right
    assert softmax is not None
    _launch.launch(
        _gradients_kernel, (blocks, runs, pieces),
        left.vectors, right.vectors, left.scale, right.scale, left.bias, right.bias,
        left.ids, right.ids,
        None if lists is None else lists.keys,
        None if lists is None else lists.starts(runs, run),
        target, *_pair(along_left), *_pair(along_right), softmax.kept,
        parts, out_scale, bias_parts if bias_wanted else None, rows, columns, width, run,
        float(softmax.smoothing), softmax.share, float(softmax.skip_below), ignore_index,
        *left.vectors.stride(), *right.vectors.stride(),
        ROWS=height, COLUMNS=step, DEPTH=depth, WIDTH=piece, WHOLE=whole, VECTORS=wanted,
        FINISHED=finished, SKIP=softmax.skip_below > 0, **meta,
        num_warps=warps if height == most else 4, num_stages=stages,
    )  # fmt: skip
    if not finished:
        _launch.launch(
            _finish_kernel, (triton.cdiv(rows, _FINISH_ROWS),),
            parts, bias_parts if bias_wanted else None, left.vectors, left.scale,
            None if along_left is None else target,
            out, out_scale, out_bias, rows, width, runs, ignore_index, *left.vectors.stride(),
            ROWS=_FINISH_ROWS, COLUMNS=_FINISH_WIDTH, VECTORS=wanted, num_warps=4,
        )  # fmt: skip
    return out, out_scale, out_bias


def _pair(softmax: Softmax | None) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if softmax is None else (softmax.grad, softmax.statistics)
