"""Which dtypes the operators take and what they accumulate in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """For plain PyTorch once :func:`autocast` has cast: it computes in the dtypes that it is given.

    Otherwise Gram matrices, products of float32 sums and logits would be halves.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """What ``torch.matmul`` would get under the autocast that is on, if one is.

    Written out because ``torch.library.register_autocast`` would cast every floating argument,
    scales and biases included.
    """
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(
        t.to(dtype) if t.is_floating_point() and t.dtype != torch.float64 else t for t in tensors
    )
