"""Contenders must compute the same thing: a ratio of two different things says nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_agree(
    ours: tuple[Tensor, ...],
    theirs: tuple[Tensor, ...],
    *,
    tolerance: float = 1e-4,
    stray_rows: float = 0.0,
    swaps: float = 0.01,
) -> None:
    """Floating results must agree to `tolerance` of the largest entry, row by row.

    Theirs may be fewer: a peer that takes normalised items has no gradient of the items themselves.
    Of indices a share of `swaps` may differ: float32 sums in another order swap neighbours whose
    scores are equal to rounding. `stray_rows` is the share of rows that may differ in floating
    results, for gradients that follow such a swap.
    """
    assert theirs, "no results of theirs"
    for place, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        assert our.shape == their.shape, f"result {place}: {our.shape} and {their.shape}"
        if not our.is_floating_point():
            swapped = (our != their).double().mean().item()
            assert swapped <= swaps, f"result {place}: {swapped:.2%} of the indices differ"
            continue
        furthest = torch.atleast_1d((our - their).abs_()).amax(-1) / our.abs().max()
        # Counted by what agrees, so that a NaN is a disagreement.
        stray = 1.0 - (furthest <= tolerance).double().mean().item()
        assert stray <= stray_rows, (
            f"result {place}: {stray:.2%} of the rows differ by more than {tolerance:g} of the "
            f"largest entry, the worst by {furthest.max().item():.3g}"
        )
