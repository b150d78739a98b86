"""Many states to one vector."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of ``states [B, L, D]`` where ``mask [B, L]`` is not 0, summed in float32."""
    weights = mask.unsqueeze(-1).to(torch.float32)
    total = (states.to(torch.float32) * weights).sum(1)
    return (total / weights.sum(1).clamp_min(1)).to(states.dtype)
