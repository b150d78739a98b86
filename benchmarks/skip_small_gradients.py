"""What leaving small gradients out gains and costs, as the table of docs/design.md.

Forward and backward of fusion_cross_entropy, cosine, in three ways: exact, with the threshold of
the dtype, and with 2^-12. Run as ``OMP_NUM_THREADS=1 python benchmarks/skip_small_gradients.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from comparison.timing import interleave
from torch import Tensor

from fusionops import fusion_cross_entropy
from fusionops.cli.bench_report import Table
from fusionops.ops import skip_small_gradients

USERS, ITEMS, FEATURES, KINDS = 2048, 50_000, 64, 200
CASES = (
    ("random", torch.float32, 1.0),
    ("random", torch.bfloat16, 20.0),
    (f"{KINDS} kinds, sorted", torch.float32, 20.0),
    (f"{KINDS} kinds, sorted", torch.bfloat16, 20.0),
    (f"{KINDS} kinds, sorted", torch.float32, 50.0),
    (f"{KINDS} kinds, sorted", torch.bfloat16, 50.0),
)
Gradients = tuple[Tensor, ...]


def inputs(items: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Users, items and targets; items of a kind stand together, and a user's target is of his."""
    generator = torch.Generator().manual_seed(0)
    user = torch.randn(USERS, FEATURES, generator=generator)
    item = torch.randn(ITEMS, FEATURES, generator=generator)
    target = torch.randint(ITEMS, (USERS,), generator=generator)
    if items != "random":
        centres = 3 * torch.randn(KINDS, FEATURES, generator=generator)
        item = item + centres.repeat_interleave(ITEMS // KINDS, 0)
        user = user + centres[target // (ITEMS // KINDS)]
    return user.to(dtype), item.to(dtype), target


def passes(
    user: Tensor, item: Tensor, target: Tensor, scale: float
) -> Callable[[AbstractContextManager[None]], Gradients]:
    """Forward and backward inside of a context; the gradients of both sides."""
    leaves = [side.requires_grad_() for side in (user, item)]

    def both(context: AbstractContextManager[None]) -> Gradients:
        with context:
            loss = fusion_cross_entropy(*leaves, target, normalization="cosine", scale=scale)
        return torch.autograd.grad(loss, leaves)

    return both


def row(items: str, dtype: torch.dtype, scale: float) -> list[str]:
    """One line of the table."""
    both = passes(*inputs(items, dtype), scale)
    ways = (nullcontext, skip_small_gradients, lambda: skip_small_gradients(2**-12))
    exact, *others = (both(way()) for way in ways)
    errors = [
        max(
            float((a.double() - b.double()).norm() / b.double().norm())
            for a, b in zip(one, exact, strict=True)
        )
        for one in others
    ]
    calls = [lambda way=way: both(way()) for way in ways]
    times = [f"{one.median * 1e3:.0f} ms" for one in interleave(calls, seconds=2.0, rounds=5)]
    cells = [f"{time}, {error:.0e}" for time, error in zip(times[1:], errors, strict=True)]
    return [items, str(dtype).removeprefix("torch."), f"{scale:g}", times[0], *cells]


if __name__ == "__main__":
    header = ["items", "dtype", "scale", "exact", "by dtype, error", "2^-12, error"]
    print(Table(header, [row(*case) for case in CASES], texts=2).markdown())
