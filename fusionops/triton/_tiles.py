"""Tiles of tokens for the kernels of attention: their places in memory, products, weighted sums.

A side has tokens ``[B, N, heads * depth]`` of any strides. `at` is where the rows of a tile begin,
in elements, and `there` which of them are to be read: the others are zeros, whatever stands in
memory. Rows are taken `CHUNK` features at a time, however wide they are.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def present(mask, sample, token, inside, mask_b, mask_n):
    """Which of the tokens that are inside are present, too."""
    if mask is not None:
        inside = inside & (tl.load(mask + sample * mask_b + token * mask_n, mask=inside) != 0)
    return inside


@triton.jit
def load_rows(side, at, there, first, depth, stride_d, CHUNK: tl.constexpr):
    """Features ``[first, first + CHUNK)`` of the rows, ``[rows, CHUNK]``."""
    column = (first + tl.arange(0, CHUNK)).to(tl.int64)
    wanted = there[:, None] & (column < depth)[None, :]
    return tl.load(side + at[:, None] + column[None, :] * stride_d, mask=wanted, other=0)


@triton.jit
def products(
    left_rows, left, left_at, left_there, left_d, right, right_at, right_there, right_d, depth,
    CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The products of each row of `left` with each of `right`, ``[rows, columns]``.

    `left_rows` are those of `left` where they are one chunk that is in registers already.
    """
    sums = tl.zeros([left_at.shape[0], right_at.shape[0]], tl.float32)
    if left_rows is not None:
        b = load_rows(right, right_at, right_there, 0, depth, right_d, CHUNK)
        sums = tl.dot(left_rows, tl.trans(b), sums, input_precision=PRECISION)
    else:
        for first in range(0, depth, CHUNK):
            a = load_rows(left, left_at, left_there, first, depth, left_d, CHUNK)
            b = load_rows(right, right_at, right_there, first, depth, right_d, CHUNK)
            sums = tl.dot(a, tl.trans(b), sums, input_precision=PRECISION)
    return sums


@triton.jit
def add_weighted(
    sums, weights, side, at, there, first, depth, stride_d,
    CHUNK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`sums` and the rows of `side`, features from `first` on, weighted by ``[sums, rows]``."""
    rows = load_rows(side, at, there, first, depth, stride_d, CHUNK)
    return tl.dot(weights.to(rows.dtype), rows, sums, input_precision=PRECISION)


@triton.jit
def store_rows(out, at, inside, first, depth, sums, CHUNK: tl.constexpr):
    """Writes features ``[first, first + CHUNK)`` of rows that lie side by side."""
    column = (first + tl.arange(0, CHUNK)).to(tl.int64)
    wanted = inside[:, None] & (column < depth)[None, :]
    place = out + at[:, None] + column[None, :]
    tl.store(place, sums.to(out.dtype.element_ty), mask=wanted)


def chunk(*sides: Tensor, heads: int = 1) -> int:
    """Features taken at a time: of the widest head, but within what registers hold.

    At least 16, the smallest that an instruction of the tensor cores takes; float32 rows, whose
    exact products are made without those, half of what others have.
    """
    widest = max(side.shape[-1] // heads for side in sides)
    most = 64 if sides[0].dtype == torch.float32 else 128
    power: int = triton.next_power_of_2(max(widest, 1))
    return max(16, min(most, power))


def precision(dtype: torch.dtype) -> str:
    """How float32 products are made: exactly, unless PyTorch is told that tf32 will do."""
    tf32 = dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if tf32 else "ieee"
