"""Modes in which the tests of ``tests/triton_kernels`` run Triton's kernels without a GPU."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

import emulator.triton
import pytest
import torch

import fusionops.ops  # registers the operators, which tests call by their names in torch.ops
from fusionops import triton

HALVES = (torch.bfloat16, torch.float16)
# The interpreter computes with the bit patterns of bfloat16.
INTERPRETED = [("interpreted", torch.float32), ("interpreted", torch.float16)]

needs_triton = pytest.mark.skipif(
    emulator.triton.missing() is not None, reason=str(emulator.triton.missing())
)


def load_kernels() -> None:
    """Loads all kernels: whoever takes the place of their launches finds them in what is loaded."""
    for home in set(triton.HOMES.values()):
        importlib.import_module(f"fusionops.triton.{home}")


@contextlib.contextmanager
def served(mode: str) -> Iterator[None]:
    """Triton's kernels serve CPU tensors, interpreted or as compiled for sm_80."""
    load_kernels()
    with emulator.triton.mode(mode), fusionops.use_backend("triton"):
        yield


def rounded(dtype: torch.dtype) -> float:
    """The unit of softmax weights that are multiplied as halves; else 0."""
    return float(torch.finfo(dtype).eps) if dtype in HALVES else 0.0
