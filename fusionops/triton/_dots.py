"""What the kernels of scores share: rows as tiles, products of tiles, and how precise they are."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TYPES = {
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}

# Programs that keep the largest GPU busy in any of these kernels: what is cut into fewer blocks is
# split along the sum as well. A constant, as bits must not depend on the GPU.
PROGRAMS = 512


def power_of_two(size: int, least: int, most: int) -> int:
    """The smallest power of two that holds `size`, within ``[least, most]``."""
    return min(most, max(least, 1 << max(size - 1, 0).bit_length()))


def arithmetic(left: Tensor, right: Tensor) -> dict[str, Any]:
    """In which type two sides are multiplied, and how exactly.

    Sides of two dtypes (`normalization="matrix"` maps half users to float32) meet in float32, which
    is multiplied exactly unless PyTorch's switch for matrix products allows TF32.
    """
    dtype = torch.promote_types(left.dtype, right.dtype)
    tf32 = dtype != torch.float32 or torch.backends.cuda.matmul.fp32_precision == "tf32"
    return {"DTYPE": _TYPES[dtype], "PRECISION": "tf32" if tf32 else "ieee"}


def kind_of(meta: dict[str, Any]) -> str:
    """The row of a table of tiles that :func:`arithmetic` falls in."""
    return str(meta["PRECISION"]) if meta["DTYPE"] == tl.float32 else "half"


def splits(blocks: int, length: int, least: int, step: int) -> tuple[int, int]:
    """Into how many runs, and how long ones, a sum over `length` is split; multiples of `step`.

    By the shape alone: at least `least` a run, and as many as keep a GPU busy with `blocks` blocks.
    """
    runs = max(1, min(triton.cdiv(PROGRAMS, max(blocks, 1)), triton.cdiv(length, least)))
    run = triton.cdiv(triton.cdiv(max(length, 1), runs), step) * step
    return triton.cdiv(max(length, 1), run), run


@triton.jit
def load_rows(
    base,
    rows,
    there,
    first,
    width,
    row_stride,
    column_stride,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """``[len(rows), COLUMNS]`` from column `first` on, in DTYPE; zeros for what is not there."""
    columns = first + tl.arange(0, COLUMNS)
    at = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    mask = there[:, None] & (columns < width)[None, :]
    return tl.load(base + at, mask=mask, other=0.0).to(DTYPE)


@triton.jit
def narrow(x, DTYPE: tl.constexpr):
    """Float32 `x` as DTYPE, and what the result is to be multiplied by.

    float16 has too few exponents for softmaxes over a large catalogue times a mean's ``1 / U``: the
    tile's largest value is brought to 2^13, so that what is lost is below 2^-37 of it.
    """
    factor = 1.0
    if tl.float16 == DTYPE:
        most = tl.maximum(tl.max(tl.max(tl.abs(x), 1), 0), 1e-30)
        x = x * (8192.0 / most)
        factor = most / 8192.0
    return x.to(DTYPE), factor


@triton.jit
def add_product(sums, left, right, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """`sums` plus the product of float32 `left`, narrowed, and `right` of DTYPE."""
    narrowed, factor = narrow(left, DTYPE)
    if tl.float16 == DTYPE:
        return sums + tl.dot(narrowed, right, input_precision=PRECISION) * factor
    return tl.dot(narrowed, right, sums, input_precision=PRECISION)
