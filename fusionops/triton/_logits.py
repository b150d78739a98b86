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


@triton.jit
def products(
    left,
    right,
    i,
    l_there,
    j,
    r_there,
    width,
    left_row_stride,
    left_column_stride,
    right_row_stride,
    right_column_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Products of left rows `i` and right rows `j`, a few features at a time."""
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for d in range(0, width, DEPTH):
        x = load_rows(left, i, l_there, d, width, left_row_stride, left_column_stride, DEPTH, DTYPE)
        y = load_rows(
            right, j, r_there, d, width, right_row_stride, right_column_stride, DEPTH, DTYPE
        )
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
def same_ids(left_ids, right_ids, i, l_there, j, r_there):
    """Pairs of two rows with one id."""
    x = tl.load(left_ids + i, mask=l_there, other=0)
    y = tl.load(right_ids + j, mask=r_there, other=0)
    return (x[:, None] == y[None, :]) & (i[:, None] != j[None, :])
