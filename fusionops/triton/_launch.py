"""The one place from which Triton kernels are started."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **meta: Any) -> None:
    """Starts ``kernel[grid](*args, **meta)``; an empty grid, which CUDA refuses, is no work.

    Parameters
    ----------
    kernel : triton.JITFunction
        The kernel.
    grid : tuple of int
        One to three sizes.
    *args, **meta
        Its arguments; compile-time constants, ``num_warps`` and ``num_stages`` by name.
    """
    if 0 not in grid:
        start(kernel, grid, args, meta)


def start(kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], meta: dict[str, Any]) -> None:
    """Starts it on the device of its first tensor; what the emulator puts its own function over."""
    with torch.cuda.device_of(next(arg for arg in args if isinstance(arg, Tensor))):
        kernel[grid](*args, **meta)
