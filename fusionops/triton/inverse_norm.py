"""inverse_norm in Triton: the scale of every row, in one pass over the vectors.

A program has a few rows and walks their columns; each lane keeps sums of its own, added at the end.
Bound: the bytes of the vectors.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton import _launch
from fusionops.triton._dots import load_rows, power_of_two

_TILE = 4096  # elements that a program has at once: 16 bytes of halves a thread, four times
_WIDEST = 512


@triton.jit
def _inverse_norm_kernel(
    x,
    out,
    rows,
    width,
    eps,
    batch_stride,
    row_stride,
    column_stride,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    blocks = tl.cdiv(rows, ROWS)
    batch = (tl.program_id(0) // blocks).to(tl.int64)
    row = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
    x += batch * batch_stride
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, width, COLUMNS):
        part = load_rows(
            x, row, row < rows, first, width, row_stride, column_stride, COLUMNS, tl.float32
        )
        sums += part * part
    squares = tl.sum(sums, 1)
    # So compared that NaN stays NaN: a row with NaN must not pass for a row of zeros.
    scale = tl.where(squares == 0.0, 0.0, 1.0 / tl.sqrt_rn(squares + eps))
    tl.store(out + batch * rows + row, scale, mask=row < rows)


def inverse_norm(x: Tensor, eps: float) -> Tensor:
    """``[B, N, D] -> [B, N]``."""
    batch, rows, width = x.shape
    out = x.new_empty((batch, rows), dtype=torch.float32)
    columns = power_of_two(width, 16, _WIDEST)
    height = power_of_two(rows, 1, _TILE // columns)
    _launch.launch(
        _inverse_norm_kernel,
        (batch * triton.cdiv(rows, height),),
        x,
        out,
        rows,
        width,
        float(eps),
        *x.stride(),
        ROWS=height,
        COLUMNS=columns,
        num_warps=4,
    )
    return out
