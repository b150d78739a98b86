"""fusion_cross_entropy in Triton: losses of users over all items, and their gradients.

The forward keeps two numbers a user (_softmax_loss.py); the backward makes the logits again, once
toward the users and once toward the items (_softmax_gradients.py), so that each gradient is summed
by one program after another in a fixed order.
"""

from __future__ import annotations

from torch import Tensor

from fusionops.triton._lists import sorted_lists
from fusionops.triton._logits import side
from fusionops.triton._softmax_gradients import Softmax, gradients_of
from fusionops.triton._softmax_loss import kept_columns, losses_of


def fusion_cross_entropy(
    user: Tensor,
    item: Tensor,
    target: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
    item_bias: Tensor | None,
    exclude_offsets: Tensor | None,
    exclude_indices: Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    skip_below: float,
) -> tuple[Tensor, Tensor]:
    """Losses ``[U]``, and statistics ``[2, U]``: peaks and totals of the softmaxes."""
    target = target.contiguous()
    lists = sorted_lists(exclude_offsets, exclude_indices, target, item.shape[0])
    users, items = side(user, user_scale), side(item, item_scale, item_bias)
    return losses_of(users, items, target, lists, label_smoothing, ignore_index)


def fusion_cross_entropy_backward(
    grad: Tensor,
    statistics: Tensor,
    user: Tensor,
    item: Tensor,
    target: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
    item_bias: Tensor | None,
    exclude_offsets: Tensor | None,
    exclude_indices: Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    skip_below: float,
    user_wanted: bool,
    item_wanted: bool,
    bias_wanted: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of both sides, their scales and the biases; empty where not wanted."""
    target = target.contiguous()
    lists = sorted_lists(exclude_offsets, exclude_indices, target, item.shape[0])
    users, items = side(user, user_scale), side(item, item_scale, item_bias)
    softmax = Softmax(
        grad.contiguous(),
        statistics.contiguous(),
        kept_columns(lists, users, items) if label_smoothing > 0 else None,
        label_smoothing,
        # With smoothing every item has a part of the target's weight.
        skip_below if label_smoothing == 0 else 0.0,
    )
    toward_user, toward_user_scale, _ = gradients_of(
        users, items, softmax, None, target, ignore_index, lists, user_wanted, False
    )
    by_item = lists.transposed() if lists is not None and (item_wanted or bias_wanted) else None
    toward_item, toward_item_scale, toward_bias = gradients_of(
        items, users, None, softmax, target, ignore_index, by_item, item_wanted, bias_wanted
    )
    return toward_user, toward_item, toward_user_scale, toward_item_scale, toward_bias
