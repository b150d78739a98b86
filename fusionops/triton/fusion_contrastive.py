"""fusion_contrastive in Triton: the cross-entropies of rows and of columns against the diagonal.

Those of the columns are the rows of the transposed logits: the forward of fusion_cross_entropy, run
both ways, with each row's own number as target. The gradients toward a side are one kernel, in
which each tile has a part of both softmaxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionops.triton._logits import side
from fusionops.triton._softmax_gradients import Softmax, gradients_of
from fusionops.triton._softmax_loss import losses_of

_NONE_IGNORED = -1


def fusion_contrastive(
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
    ids: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Losses ``[B]``, and statistics ``[4, B]``: peaks and totals of the rows and the columns."""
    users, items = side(user, user_scale, None, ids), side(item, item_scale, None, ids)
    own = torch.arange(user.shape[0], device=user.device)
    rows, by_row = losses_of(users, items, own, None, 0.0, _NONE_IGNORED)
    columns, by_column = losses_of(items, users, own, None, 0.0, _NONE_IGNORED)
    return (rows + columns) / 2, torch.cat([by_row, by_column])


def fusion_contrastive_backward(
    grad: Tensor,
    statistics: Tensor,
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
    ids: Tensor | None,
    user_wanted: bool,
    item_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of both sides and their scales; empty where not wanted."""
    users, items = side(user, user_scale, None, ids), side(item, item_scale, None, ids)
    own = torch.arange(user.shape[0], device=user.device)
    grad, statistics = grad.contiguous(), statistics.contiguous()
    by_row, by_column = (
        Softmax(grad, half, None, 0.0, 0.0, share=0.5) for half in (statistics[:2], statistics[2:])
    )
    toward_user, toward_user_scale, _ = gradients_of(
        users, items, by_row, by_column, own, _NONE_IGNORED, None, user_wanted, False
    )
    toward_item, toward_item_scale, _ = gradients_of(
        items, users, by_column, by_row, own, _NONE_IGNORED, None, item_wanted, False
    )
    return toward_user, toward_item, toward_user_scale, toward_item_scale
