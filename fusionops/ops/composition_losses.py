"""The losses as chunked compositions of PyTorch, for devices without kernels of ours.

Items are walked in chunks, forward and once more backward; ``U x P`` never exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fusionops import reference
from fusionops.ops import composition
from fusionops.ops._ragged import Ragged
from fusionops.ops.normalization import Norm


def fusion_cross_entropy(
    user: Tensor,
    item: Tensor,
    target: Tensor,
    norm: Norm,
    scale: float | Tensor,
    item_bias: Tensor | None,
    exclude: Ragged | None,
    label_smoothing: float,
    ignore_index: int,
) -> Tensor:
    """The rows of :func:`fusionops.fusion_cross_entropy`, before the reduction."""
    left, right = composition.normalized(user, item, norm)
    offsets, indices = exclude or (None, None)
    # Ignored rows carry nothing, whatever stands in them.
    left = left.masked_fill((target == ignore_index).unsqueeze(1), 0) * scale
    own = target.masked_fill(target == ignore_index, -1)
    rows: Tensor = _ChunkedSoftmax.apply(
        left, right, item_bias, own, offsets, indices, None, label_smoothing
    )[0]
    return rows


def fusion_contrastive(
    user: Tensor, item: Tensor, norm: Norm, scale: float | Tensor, ids: Tensor | None
) -> Tensor:
    """See :func:`fusionops.fusion_contrastive`: the cross-entropy of the rows, then the columns."""
    left, right = composition.normalized(user, item, norm)
    left = left * scale
    own = torch.arange(len(user), device=user.device)
    rows = _ChunkedSoftmax.apply(left, right, None, own, None, None, ids, 0.0)[0]
    columns = _ChunkedSoftmax.apply(right, left, None, own, None, None, ids, 0.0)[0]
    loss: Tensor = (rows + columns).sum() / rows.new_full((), 2 * len(user))
    return loss


class _ChunkedSoftmax(torch.autograd.Function):
    """Cross-entropy of ``left @ right.T + bias`` by row, and each row's log-sum-exp.

    A row whose `own` is -1 has no part in it. Excluded are the items in a ragged list, or those
    with the id of the row; never a row's own.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        left: Tensor,
        right: Tensor,
        bias: Tensor | None,
        own: Tensor,
        offsets: Tensor | None,
        indices: Tensor | None,
        ids: Tensor | None,
        smoothing: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        total = left.new_full((len(left),), -torch.inf)
        target = left.new_zeros(len(left))
        logits_sum = torch.zeros_like(total)
        kept = torch.zeros_like(total)
        for part, logits, barred in _chunks(left, right, bias, own, offsets, indices, ids):
            hit = _one_hot(own, part, left.device)
            target = target + torch.where(hit, logits, 0.0).sum(1)
            if barred is not None:
                logits_sum = logits_sum + logits.masked_fill(barred, 0).sum(1)
                kept = kept + (~barred).sum(1)
                logits = logits.masked_fill(barred, -torch.inf)
            else:
                logits_sum = logits_sum + logits.sum(1)
                kept = kept + logits.shape[1]
            total = torch.logaddexp(total, logits.logsumexp(1))
        rows = total - (1 - smoothing) * target
        if smoothing > 0:
            rows = rows - smoothing * logits_sum / kept
        return rows.masked_fill(own < 0, 0), total, kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[1], output[2])
        ctx.save_for_backward(*inputs[:7], output[1], output[2])
        ctx.smoothing = inputs[7]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        toward_left, toward_right, toward_bias = _ChunkedSoftmaxBackward.apply(
            grad, *ctx.saved_tensors, ctx.smoothing
        )
        needs = ctx.needs_input_grad
        return (
            toward_left if needs[0] else None,
            toward_right if needs[1] else None,
            toward_bias if needs[2] else None,
            *[None] * 5,
        )


class _ChunkedSoftmaxBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        left: Tensor,
        right: Tensor,
        bias: Tensor | None,
        own: Tensor,
        offsets: Tensor | None,
        indices: Tensor | None,
        ids: Tensor | None,
        total: Tensor,
        kept: Tensor,
        smoothing: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weight = grad.masked_fill(own < 0, 0).unsqueeze(1)
        toward_left = torch.zeros_like(left)
        toward_right, toward_bias = [right[:0]], [right.new_zeros(0)]
        for part, logits, barred in _chunks(left, right, bias, own, offsets, indices, ids):
            toward = (logits - total.unsqueeze(1)).exp()
            if smoothing > 0:
                toward = toward - smoothing / kept.unsqueeze(1)
            if barred is not None:
                toward = toward.masked_fill(barred, 0)
            hit = _one_hot(own, part, left.device).to(toward.dtype)  # a bool would give float32
            toward = torch.where(weight == 0, 0.0, weight * (toward - (1 - smoothing) * hit))
            toward_left = toward_left + toward @ right[part]
            toward_right.append(toward.mT @ left)
            toward_bias.append(toward.sum(0))
        return toward_left, torch.cat(toward_right), torch.cat(toward_bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "the streamed losses can be differentiated once, not twice: use backend 'reference'"
        )


def _one_hot(own: Tensor, part: slice, device: torch.device) -> Tensor:
    return own.unsqueeze(1) == torch.arange(part.start, part.stop, device=device)


def _chunks(
    left: Tensor,
    right: Tensor,
    bias: Tensor | None,
    own: Tensor,
    offsets: Tensor | None,
    indices: Tensor | None,
    ids: Tensor | None,
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Parts of the items, their logits, and which of them are excluded."""
    rows, items = len(left), len(right)
    size = max(composition.CHUNK_ELEMENTS // max(rows, 1), 1)
    for begin in range(0, items, size):
        part = slice(begin, min(begin + size, items))
        logits = left @ right[part].mT
        if bias is not None:
            logits = logits + bias[part]
        barred = None
        if offsets is not None and indices is not None:
            barred = reference.ragged_mask((offsets, indices), rows, logits.shape[1], begin)
        elif ids is not None:
            barred = ids.unsqueeze(1) == ids[part]
        if barred is not None:
            barred = barred & ~_one_hot(own, part, left.device)
        yield part, logits, barred
