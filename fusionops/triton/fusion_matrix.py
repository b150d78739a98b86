"""fusion_matrix and fusion_contract in Triton: one product of matrices with scales.

``out[b, m, n] = left_scale[b, m] right_scale[b, n] sum_k inner_scale[b, k] left[b, m, k]
right[b, n, k]`` with any strides: the scores of all pairs contract the features, and the gradients
and Gram matrices contract the rows of two tall sides, which is the same product of their
transposes. A program has one tile of the result and walks the sum; where the result has too few
tiles, the sum is split, and a second kernel adds the parts in ascending order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton import _launch
from fusionops.triton._dots import add_product, arithmetic, kind_of, load_rows, power_of_two, splits

_LEAST_PART = 1024  # terms of a split sum worth a program
_GROUP = 8  # blocks of rows that go along the columns together, so that both sides stay in cache
_SUM_BLOCK = 1024  # elements of a program that adds parts

# Rows, columns and terms of a tile, warps and stages. Exact float32 is not for the tensor cores:
# its operands pass through registers, a few terms at a time. TF32 takes twice the shared memory of
# halves; each fits the 99 KiB of an sm_120.
_TILES = {
    "half": (128, 128, 64, 8, 3),
    "tf32": (128, 64, 32, 4, 3),
    "ieee": (64, 64, 16, 4, 2),
}


@triton.jit
def _product_kernel(
    left,
    right,
    out,
    left_scale,
    right_scale,
    inner_scale,
    M,
    N,
    K,
    run,
    left_batch_stride,
    left_row_stride,
    left_column_stride,
    right_batch_stride,
    right_row_stride,
    right_column_stride,
    parts,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row_blocks, column_blocks = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    tiles = row_blocks * column_blocks
    tile = tl.program_id(0) % tiles
    part = tl.program_id(0) // tiles % parts
    batch = (tl.program_id(0) // tiles // parts).to(tl.int64)
    first = tile // (GROUP * column_blocks) * GROUP
    height = min(row_blocks - first, GROUP)
    within = tile % (GROUP * column_blocks)
    m = (first + within % height) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = within // height * BLOCK_N + tl.arange(0, BLOCK_N)
    left += batch * left_batch_stride
    right += batch * right_batch_stride
    sums = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for k in range(part * run, min(K, part * run + run), BLOCK_K):
        x = load_rows(left, m, m < M, k, K, left_row_stride, left_column_stride, BLOCK_K, DTYPE)
        y = load_rows(right, n, n < N, k, K, right_row_stride, right_column_stride, BLOCK_K, DTYPE)
        if inner_scale is None:
            sums = tl.dot(x, tl.trans(y), sums, input_precision=PRECISION)
        else:
            terms = k + tl.arange(0, BLOCK_K)
            scale = tl.load(inner_scale + batch * K + terms, mask=terms < K, other=0.0)
            scaled = x.to(tl.float32) * scale[None, :]
            sums = add_product(sums, scaled, tl.trans(y), DTYPE, PRECISION)
    if left_scale is not None:
        sums *= tl.load(left_scale + batch * M + m, mask=m < M, other=0.0)[:, None]
    if right_scale is not None:
        sums *= tl.load(right_scale + batch * N + n, mask=n < N, other=0.0)[None, :]
    batches = tl.num_programs(0) // tiles // parts
    row = (part.to(tl.int64) * batches + batch) * M + m
    inside = (m < M)[:, None] & (n < N)[None, :]
    tl.store(out + row[:, None] * N + n[None, :], sums.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _sum_kernel(parts, out, size, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    sums = tl.zeros([BLOCK], tl.float32)
    for _ in range(count):
        sums += tl.load(parts + at, mask=at < size, other=0.0)
        parts += size
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=at < size)


def fusion_matrix(
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """``[B, U, D] [B, P, D] -> [B, U, P]``."""
    return _product(user, item, user_scale, item_scale, None, dtype or item.dtype)


def fusion_contract(
    left: Tensor, right: Tensor, scale: Tensor | None, dtype: torch.dtype | None
) -> Tensor:
    """``[B, K, M] [B, K, N] -> [B, M, N]``."""
    return _product(left.mT, right.mT, None, None, scale, dtype or right.dtype)


def _product(
    left: Tensor,
    right: Tensor,
    left_scale: Tensor | None,
    right_scale: Tensor | None,
    inner_scale: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    (batch, M, K), N = left.shape, right.shape[1]
    out = left.new_empty((batch, M, N), dtype=dtype)
    if out.numel() == 0:
        return out
    meta = arithmetic(left, right)
    rows, columns, terms, warps, stages = _TILES[kind_of(meta)]
    rows, columns = power_of_two(M, 16, rows), power_of_two(N, 16, columns)
    terms = power_of_two(K, 16, terms)
    tiles = triton.cdiv(M, rows) * triton.cdiv(N, columns)
    parts, run = splits(batch * tiles, K, _LEAST_PART, terms)
    sums = out if parts == 1 else left.new_empty((parts, batch, M, N), dtype=torch.float32)
    _launch.launch(
        _product_kernel,
        (batch * parts * tiles,),
        left,
        right,
        sums,
        _flat(left_scale),
        _flat(right_scale),
        _flat(inner_scale),
        M,
        N,
        K,
        run,
        *left.stride(),
        *right.stride(),
        parts,
        BLOCK_M=rows,
        BLOCK_N=columns,
        BLOCK_K=terms,
        GROUP=_GROUP,
        **meta,
        num_warps=warps if rows * columns >= 64 * 64 else 4,
        num_stages=stages,
    )
    if parts > 1:
        size = out.numel()
        grid = (triton.cdiv(size, _SUM_BLOCK),)
        _launch.launch(_sum_kernel, grid, sums, out, size, parts, BLOCK=_SUM_BLOCK, num_warps=4)
    return out


def _flat(scale: Tensor | None) -> Tensor | None:
    return None if scale is None else scale.contiguous()
