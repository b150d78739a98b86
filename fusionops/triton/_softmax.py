"""Softmaxes over what is present, as the kernels of the fusing operators share them.

A row of which nothing is present, or whose scores are all -inf, has weights of zero: its peak is
taken to be 0, and so is the reciprocal of its total.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def finite_peak(peak):
    """What to subtract before the exponential: -inf minus itself would be NaN."""
    return tl.where(peak == -float("inf"), 0.0, peak)


@triton.jit
def reciprocal(total):
    return tl.where(total == 0.0, 0.0, 1.0 / tl.where(total == 0.0, 1.0, total))


@triton.jit
def online(peak, total, scores, axis: tl.constexpr):
    """One step of a softmax that has seen scores with this peak and total, along `axis`.

    Returns the new peak and total, the exponentials of `scores`, and what sums made so far are to
    be multiplied by.
    """
    risen = tl.maximum(peak, tl.max(scores, axis))
    shift = finite_peak(risen)
    powers = tl.exp(scores - tl.expand_dims(shift, axis))
    shrunk = tl.exp(peak - shift)
    return risen, total * shrunk + tl.sum(powers, axis), powers, shrunk


@triton.jit
def log_sum_of(peak, total):
    """The log-sum-exp; +inf where nothing is, of which all weights are 0 then."""
    nothing = total == 0.0
    return tl.where(
        nothing, float("inf"), finite_peak(peak) + tl.log(tl.where(nothing, 1.0, total))
    )
