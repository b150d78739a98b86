"""A Triton kernel for the emulator's own tests, which must stand in a file."""

import triton
import triton.language as tl


@triton.jit
def half(x):
    return x * 0.5


@triton.jit
def product(
    a,
    b,
    c,
    m,
    n,
    k,
    a_row,
    a_column,
    b_row,
    b_column,
    c_row,
    c_column,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """The scores a b, each row less its largest and with half of its sum added."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.arange(0, BN)
    scores = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, k, BK):
        inner = start + tl.arange(0, BK)
        left = tl.load(
            a + rows[:, None] * a_row + inner[None, :] * a_column,
            mask=(rows[:, None] < m) & (inner[None, :] < k),
            other=0.0,
        )
        right = tl.load(
            b + inner[:, None] * b_row + columns[None, :] * b_column,
            mask=(inner[:, None] < k) & (columns[None, :] < n),
            other=0.0,
        )
        scores = tl.dot(left, right, scores, input_precision="ieee")
    scores += half(tl.sum(scores, 1))[:, None] - tl.max(scores, 1)[:, None]
    tl.store(
        c + rows[:, None] * c_row + columns[None, :] * c_column,
        scores,
        mask=(rows[:, None] < m) & (columns[None, :] < n),
    )
