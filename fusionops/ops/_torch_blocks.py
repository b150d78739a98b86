"""The building blocks in plain PyTorch, for GPUs: what no kernel of ours needs to do better.

Each takes and returns what the native operator of its name does (``csrc/torch/schemas.h``), and
sums in an order that is the same on every run.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionops import reference
from fusionops.ops._dtypes import accumulator, without_autocast


def inverse_norm(x: Tensor, eps: float) -> Tensor:
    """``[B, N, D] -> [B, N]``; halves are summed in float32 without a copy of them in it."""
    return reference.inverse_norm(x, eps, accumulator(x.dtype))


def fusion_matrix(
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
    dtype: torch.dtype | None,
) -> Tensor:
    """``[B, U, D] [B, P, D] -> [B, U, P]``."""
    sums = accumulator(item.dtype)
    with without_autocast(user.device):
        product = user.to(sums) @ item.to(sums).mT
    if user_scale is not None:
        product = product * user_scale.unsqueeze(-1)
    if item_scale is not None:
        product = product * item_scale.unsqueeze(-2)
    return product.to(dtype or item.dtype)


def fusion_contract(
    left: Tensor, right: Tensor, scale: Tensor | None, dtype: torch.dtype | None
) -> Tensor:
    """``[B, K, M] [B, K, N] -> [B, M, N]``."""
    sums = accumulator(right.dtype)
    narrow = right.to(sums)
    if scale is not None:
        narrow = narrow * scale.unsqueeze(-1)
    with without_autocast(left.device):
        product = left.to(sums).mT @ narrow
    return product.to(dtype or right.dtype)


def fusion_topk_backward(
    grad: Tensor,
    indices: Tensor,
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``[U, k] [U, k] [U, D] [P, D] -> [U, D], [P, D], [P]``."""
    sums = accumulator(user.dtype)
    chosen = indices.clamp_min(0)
    grad = grad.masked_fill(indices < 0, 0.0)
    by_item = grad if item_scale is None else grad * item_scale[chosen]
    with without_autocast(user.device):
        toward_user = (by_item.unsqueeze(1) @ item[chosen].to(sums)).squeeze(1)
    by_user = grad if user_scale is None else grad * user_scale.unsqueeze(-1)
    pairs = by_user.unsqueeze(-1) * user.to(sums).unsqueeze(1)
    # index_put sorts by index and adds in that order; index_add would add by atomics.
    where = (chosen.flatten(),)
    toward_item = user.new_zeros(item.shape, dtype=sums).index_put_(
        where, pairs.flatten(0, 1), accumulate=True
    )
    toward_bias = user.new_zeros(item.shape[:1], dtype=sums).index_put_(
        where, grad.flatten(), accumulate=True
    )
    return toward_user, toward_item, toward_bias
