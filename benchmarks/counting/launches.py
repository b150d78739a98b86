"""A launch of a kernel: the tensors that it reads and writes, and its operations."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

# Who does the arithmetic: fused multiply-adds in float32, or tensor cores.
CACHE = 40 << 20  # the smallest second level of the GPUs compared
FP32, TF32, HALF = "fp32", "tf32", "half"


@dataclass(frozen=True)
class Launch:
    """Bytes by tensor, each counted once, and operations (an addition or a product is one)."""

    name: str
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)
    operations: float = 0.0
    unit: str = FP32

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return sum(self.reads.values()) + sum(self.writes.values())


def size_of(tensor: Tensor) -> int:
    """Bytes of the memory that a tensor shows; what is expanded is there once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= 1 if stride == 0 and size > 0 else size
    return count * tensor.element_size()


def gathered(table: int, rows: int) -> int:
    """Bytes read of a table for `rows` bytes of its rows, once each where a cache holds it."""
    return rows if table > CACHE else min(rows, table)


def unit_of(*sides: Tensor) -> str:
    """What multiplies these: tensor cores if all are halves (TF32 is off, which is its default)."""
    half = all(side.dtype in (torch.bfloat16, torch.float16) for side in sides)
    return HALF if half else FP32
