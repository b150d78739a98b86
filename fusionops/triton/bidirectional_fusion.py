"""bidirectional_fusion in Triton: few tokens in one tile, both ways; many a pass each way."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusionops.triton import _flash, _packed
from fusionops.triton._pairing import Pairing, Side

_SUMS = torch.float32
_Four = tuple[Tensor, Tensor, Tensor, Tensor]


def bidirectional_fusion(
    user: Tensor,
    item: Tensor,
    user_value: Tensor | None,
    item_value: Tensor | None,
    user_mask: Tensor | None,
    item_mask: Tensor | None,
    scale: float | None,
) -> _Four:
    """``fusionops::bidirectional_fusion``; see ``csrc/torch/schemas.h``."""
    pairing = _pairing(user, item, user_value, item_value, user_mask, item_mask, scale)
    batch, users, items = user.shape[0], user.shape[1], item.shape[1]
    from_item = user.new_empty((batch, users, pairing.columns.values.shape[2]))
    from_user = item.new_empty((batch, items, pairing.rows.values.shape[2]))
    user_log_sum = user.new_empty((batch, users), dtype=_SUMS)
    item_log_sum = item.new_empty((batch, items), dtype=_SUMS)
    served = _packed if pairing.fits_tile else _flash
    served.forward(pairing, from_item, from_user, user_log_sum, item_log_sum, None)
    return from_item, from_user, user_log_sum, item_log_sum


def bidirectional_fusion_backward(
    grad_from_item: Tensor,
    grad_from_user: Tensor,
    from_item: Tensor,
    from_user: Tensor,
    user_log_sum: Tensor,
    item_log_sum: Tensor,
    user: Tensor,
    item: Tensor,
    user_value: Tensor | None,
    item_value: Tensor | None,
    user_mask: Tensor | None,
    item_mask: Tensor | None,
    scale: float | None,
    user_wanted: bool,
    item_wanted: bool,
    user_value_wanted: bool,
    item_value_wanted: bool,
) -> _Four:
    """``fusionops::bidirectional_fusion_backward``; see ``csrc/torch/schemas.h``."""
    pairing = _pairing(user, item, user_value, item_value, user_mask, item_mask, scale)
    user_value_wanted = user_value_wanted and user_value is not None
    item_value_wanted = item_value_wanted and item_value is not None
    wanted = user_wanted, item_wanted, user_value_wanted, item_value_wanted
    grads = [
        side.new_empty((side.shape[0] if asked else 0, *side.shape[1:]))
        for side, asked in zip(pairing.tensors, wanted, strict=True)
    ]
    places = [grad if asked else None for grad, asked in zip(grads, wanted, strict=True)]
    slopes = grad_from_item.contiguous(), grad_from_user.contiguous(), None
    if not any(wanted):
        pass
    elif pairing.fits_tile:
        _packed.backward(pairing, places, slopes)
    else:
        results = from_item.contiguous(), from_user.contiguous()
        _flash.backward(pairing, places, slopes, results, (user_log_sum, item_log_sum))
    return grads[0], grads[1], grads[2], grads[3]


def _pairing(
    user: Tensor,
    item: Tensor,
    user_value: Tensor | None,
    item_value: Tensor | None,
    user_mask: Tensor | None,
    item_mask: Tensor | None,
    scale: float | None,
) -> Pairing:
    scale = 1 / math.sqrt(max(user.shape[2], 1)) if scale is None else scale
    return Pairing(Side(user, user_value, user_mask), Side(item, item_value, item_mask), 1, scale)
