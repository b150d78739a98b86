"""Tiles of logits, as the forward and the backward of the softmaxes make them.

``left_scale[i] right_scale[j] (left[i] . right[j]) + left_bias[i] + right_bias[j]`` for a block of
left rows that stays, and right rows that pass by. Users are the left side where something is wanted
by user, and the right side where it is wanted by item.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton._dots import load_rows


class Side(NamedTuple):
    """Vectors ``[N, D]``, and a scale, bias and id of each or none; all but vectors contiguous."""

    vectors: Tensor
    scale: Tensor | None
    bias: Tensor | None
    ids: Tensor | None


def side(
    vectors: Tensor,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    ids: Tensor | None = None,
) -> Side:
    flat = (None if each is None else each.contiguous() for each in (scale, bias, ids))
    return Side(vectors, *flat)


# In a kernel a side is a tuple: vectors, row stride, column stride, scale, bias, ids.


@triton.jit
def rows_of(side, rows, there, first, width, COLUMNS: tl.constexpr, DTYPE: tl.constexpr):
    """A tile of a side's rows, from column `first` on."""
    return load_rows(side[0], rows, there, first, width, side[1], side[2], COLUMNS, DTYPE)


@triton.jit
def products(
    left, right, i, i_there, j, j_there, width,
    DEPTH: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Products of left rows `i` and right rows `j`, a few features at a time."""
    sums = tl.zeros([i.shape[0], j.shape[0]], tl.float32)
    for d in range(0, width, DEPTH):
        x = rows_of(left, i, i_there, d, width, DEPTH, DTYPE)
        y = rows_of(right, j, j_there, d, width, DEPTH, DTYPE)
        sums = tl.dot(x, tl.trans(y), sums, input_precision=PRECISION)
    return sums


@triton.jit
def per_row(values, rows, there, otherwise):
    """One number a row, or `otherwise` where it is not there or there are none."""
    result = tl.zeros_like(rows).to(tl.float32) + otherwise
    if values is not None:
        result = tl.load(values + rows, mask=there, other=otherwise).to(tl.float32)
    return result


@triton.jit
def left_block(
    left, i, i_there, width, WHOLE: tl.constexpr, DEPTH: tl.constexpr, DTYPE: tl.constexpr
):
    """What stays of the left rows: themselves if they are loaded WHOLE, their scales and biases."""
    x = i
    if WHOLE:
        x = rows_of(left, i, i_there, 0, width, DEPTH, DTYPE)
    return x, per_row(left[3], i, i_there, 1.0), per_row(left[4], i, i_there, 0.0)


@triton.jit
def logits_tile(
    left, right, block, i, i_there, j, j_there, width,
    WHOLE: tl.constexpr, DEPTH: tl.constexpr, DTYPE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Logits, which of them are left out, the right rows where they are WHOLE, and their scales."""
    x, scale, bias = block
    y = j
    if WHOLE:
        y = rows_of(right, j, j_there, 0, width, DEPTH, DTYPE)
        z = tl.dot(x, tl.trans(y), input_precision=PRECISION)
    else:
        z = products(left, right, i, i_there, j, j_there, width, DEPTH, DTYPE, PRECISION)
    j_scale = per_row(right[3], j, j_there, 1.0)
    z = z * scale[:, None] * j_scale[None, :]
    if left[4] is not None:
        z += bias[:, None]
    if right[4] is not None:
        z += per_row(right[4], j, j_there, 0.0)[None, :]
    gone = tl.broadcast_to((i_there == 0)[:, None] | (j_there == 0)[None, :], z.shape)
    if left[5] is not None:  # two rows with one id are not each other's negatives
        i_id = tl.load(left[5] + i, mask=i_there, other=0)
        j_id = tl.load(right[5] + j, mask=j_there, other=0)
        gone = gone | ((i_id[:, None] == j_id[None, :]) & (i[:, None] != j[None, :]))
    return z, gone, y, j_scale
