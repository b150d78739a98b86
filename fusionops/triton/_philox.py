"""Dropout by the number of a weight, as ``fusionops.reference.dropout_kept`` defines it.

Triton's own Philox4x32-10 is the same function: key halves from the seed, the low and the high half
of the counter in its first two words and zeros in the others. What Triton's ``tl.rand`` makes of
the words is not, so that they are asked for as they are.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def dropout(numbers, seed, threshold, factor):
    """`factor` where the weights of these numbers are kept, 0 where they are dropped.

    The seed is one number in memory; `threshold` is compared with the words' upper 24 bits.
    """
    counter = numbers // 4
    low = (counter & 0xFFFFFFFF).to(tl.uint32)
    high = (counter >> 32).to(tl.uint32)
    zero = low * 0
    first, second, third, fourth = tl.philox(tl.load(seed), low, high, zero, zero)
    word = numbers % 4
    word = tl.where(
        word < 2, tl.where(word == 0, first, second), tl.where(word == 2, third, fourth)
    )
    return tl.where((word >> 8).to(tl.int32) >= threshold, factor, 0.0)


def numbers(dropout_p: float) -> tuple[int, float]:
    """The threshold of a dropout, and what it multiplies the weights by that it keeps."""
    return round(dropout_p * (1 << 24)), 1 / (1 - dropout_p) if dropout_p < 1 else 0.0
