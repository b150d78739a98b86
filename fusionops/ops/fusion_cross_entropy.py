"""Softmax cross-entropy over the whole catalogue, streamed forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks, _skipping, composition_losses
from fusionops.ops._dtypes import accumulator, without_autocast
from fusionops.ops._library import apply, loop_vmap, operator, register
from fusionops.ops._ragged import as_ragged, check_targets, check_values
from fusionops.ops.bilinear import spread, total
from fusionops.ops.normalization import Norm, normalize_flat

_op = operator("fusion_cross_entropy")
_backward_op = operator("fusion_cross_entropy_backward")

REDUCTIONS = ("mean", "sum", "none")


def fusion_cross_entropy(
    user: Tensor,
    item: Tensor,
    target: Tensor,
    *,
    normalization: str = "diagonal",
    power: float = 0.5,
    ridge: float = 0.0,
    eps: float = 0.0,
    scale: float | Tensor = 1.0,
    item_bias: Tensor | None = None,
    exclude: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    r"""Cross-entropy of the logits ``scale * F + item_bias`` over all items, without the logits.

    Parameters
    ----------
    user, item : Tensor
        ``[U, D]`` and ``[P, D]``, as for :func:`fusionops.fusion_matrix`.
    target : Tensor
        ``[U]``, integers: the item of each user, in ``[0, P)``, or `ignore_index`.
    normalization, power, ridge, eps
        As for :func:`fusionops.fusion_matrix`.
    scale : float or Tensor
        A number or a 0-d floating tensor, e.g. an inverse temperature that is learned.
    item_bias : Tensor, optional
        ``[P]``, e.g. log-popularity. Any floating dtype.
    exclude : ragged lists of item indices per user, optional
        Items that are no negatives, e.g. all that the user has bought, in the forms of
        :func:`fusionops.fusion_topk`. The row's own target is never excluded, so whole histories
        can be passed.
    label_smoothing : float
        In ``[0, 1]``: the part of the target's weight that is spread evenly over the items that
        are not excluded, the target among them.
    ignore_index : int
        Rows with this target have loss 0 and gradient 0, and do not count in the mean.
    reduction : {"mean", "sum", "none"}
        Over the rows that are not ignored.

    Returns
    -------
    Tensor
        A scalar, or ``[U]`` for ``"none"``; float64 for float64 inputs and float32 otherwise.
        Without a row that counts, the mean is NaN and the sum 0.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fusionops.fusion_matrix`.
    IndexError
        A target or an index in `exclude` that is not in ``[0, P)``.

    Notes
    -----
    .. math::
        \ell_i = -\sum_{j \in \mathcal{N}_i} q_{ij} \log
        \frac{\exp z_{ij}}{\sum_{l \in \mathcal{N}_i} \exp z_{il}},
        \qquad z_{ij} = \text{scale} \cdot F_{ij} + b_j

        q_{ij} = (1 - \alpha) \, [j = t_i] + \frac{\alpha}{|\mathcal{N}_i|}

    with :math:`F` of :func:`fusionops.fusion_matrix`, :math:`b` in `item_bias`, :math:`t_i` in
    `target`, :math:`\alpha` the `label_smoothing`, and :math:`\mathcal{N}_i` the items that are not
    excluded, the target among them.

    Memory is ``O((U + P) D)`` forward and backward: the logits are computed once more for the
    gradients. The result has the same bits for any number of threads. It can be differentiated
    once, toward `user`, `item`, `scale` and `item_bias`; gradients are exact unless
    :class:`fusionops.ops.skip_small_gradients` says otherwise.

    Examples
    --------
    >>> import torch, fusionops
    >>> user, item = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    >>> fusionops.fusion_cross_entropy(user, item, torch.tensor([0, 1]))
    tensor(0.7067)
    """
    norm = Norm(*_checks.norm(normalization, power, ridge, eps))
    user, item = _checks.sides(batched=False, user=user, item=item)
    _checks.same_width(user, item)
    users, items = user.shape[0], item.shape[0]
    target = _checks.integers("target", target, users, user)
    scale = _checks.scale(scale, user)
    if item_bias is not None:
        item_bias = _checks.item_bias(item_bias, item)
    if exclude is not None:
        exclude = as_ragged("exclude", exclude, users, items, item.device)
    label_smoothing = _checks.number("label_smoothing", label_smoothing, least=0.0)
    if label_smoothing > 1:
        raise ValueError(f"label_smoothing: expected at most 1, got {label_smoothing}")
    ignore_index = _checks.count("ignore_index", ignore_index, least=-(1 << 63))
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    server = backend.serving("fusion_cross_entropy", user)
    if server != "kernels" and user.device.type != "meta" and not torch.compiler.is_compiling():
        check_targets(target, ignore_index, items)
        if exclude is not None:
            check_values("exclude", exclude, items)
    rows = _rows(
        server, user, item, target, norm, scale, item_bias, exclude, label_smoothing, ignore_index
    )
    return _reduced(rows, target, ignore_index, reduction, server)


def _rows(
    server: str,
    user: Tensor,
    item: Tensor,
    target: Tensor,
    norm: Norm,
    scale: float | Tensor,
    item_bias: Tensor | None,
    exclude: tuple[Tensor, Tensor] | None,
    label_smoothing: float,
    ignore_index: int,
) -> Tensor:
    """The loss of every row, by whoever serves the call."""
    options = label_smoothing, ignore_index
    if server == "reference":
        with without_autocast(user.device):
            return reference.fusion_cross_entropy(
                user,
                item,
                target,
                scale=scale,
                item_bias=item_bias,
                exclude=exclude,
                label_smoothing=label_smoothing,
                ignore_index=ignore_index,
                reduction="none",
                **norm._asdict(),
            )
    if server == "composition":
        with without_autocast(user.device):
            return composition_losses.fusion_cross_entropy(
                user, item, target, norm, scale, item_bias, exclude, *options
            )
    skip_below = _skipping.threshold(user.dtype, item.shape[0])
    user, item, user_scale, item_scale = normalize_flat(user, item, norm)
    user_scale = spread(scale, user_scale, user)
    inputs = (user, item, target, user_scale, item_scale, item_bias, *(exclude or (None, None)))
    rows: Tensor
    rows, _ = apply(_CrossEntropy, _op, *inputs, *options, skip_below)
    return rows


def _reduced(
    rows: Tensor, target: Tensor, ignore_index: int, reduction: str, server: str
) -> Tensor:
    if reduction == "none":
        return rows
    loss = total(rows) if server == "kernels" else rows.sum()
    if reduction == "sum":
        return loss
    # As vectors: of a scalar vmap looks at the first sample, and there may be none.
    counted = (target != ignore_index).sum().reshape(1)
    return (loss.reshape(1) / counted).reshape(())


class _CrossEntropy(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
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
        # Written out: Dynamo takes *args for the context where no gradient is wanted.
        result: tuple[Tensor, Tensor] = _op(
            user,
            item,
            target,
            user_scale,
            item_scale,
            item_bias,
            exclude_offsets,
            exclude_indices,
            label_smoothing,
            ignore_index,
            skip_below,
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], *inputs[:8])
        ctx.options = inputs[8:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        statistics, *inputs = ctx.saved_tensors
        needs = ctx.needs_input_grad
        found = apply(
            _CrossEntropyBackward,
            _backward_op,
            grad,
            statistics,
            *inputs,
            *ctx.options,
            needs[0] or needs[3],
            needs[1] or needs[4],
            needs[5],
        )
        toward_user, toward_item, toward_user_scale, toward_item_scale, toward_bias = found
        return (
            toward_user if needs[0] else None,
            toward_item if needs[1] else None,
            None,
            toward_user_scale if needs[3] else None,
            toward_item_scale if needs[4] else None,
            toward_bias if needs[5] else None,
            *[None] * 5,
        )


_Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class _CrossEntropyBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
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
    ) -> _Five:
        result: _Five = _backward_op(
            grad,
            statistics,
            user,
            item,
            target,
            user_scale,
            item_scale,
            item_bias,
            exclude_offsets,
            exclude_indices,
            label_smoothing,
            ignore_index,
            skip_below,
            user_wanted,
            item_wanted,
            bias_wanted,
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "fusion_cross_entropy can be differentiated once, not twice: use backend 'reference'"
        )


def _fake(
    user: Tensor, item: Tensor, target: Tensor, *rest: Tensor | float | None
) -> tuple[Tensor, Tensor]:
    sums, users = accumulator(user.dtype), user.shape[0]
    return user.new_empty((users,), dtype=sums), user.new_empty((2, users), dtype=sums)


def _fake_backward(
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
) -> _Five:
    sums, (items, depth) = accumulator(user.dtype), item.shape
    users = user.shape[0] if user_wanted else 0
    biases = items if bias_wanted else 0
    items = items if item_wanted else 0
    return (
        user.new_empty((users, depth)),
        item.new_empty((items, depth)),
        user.new_empty((users,), dtype=sums),
        item.new_empty((items,), dtype=sums),
        item.new_empty((biases,), dtype=sums),
    )


register("fusion_cross_entropy", _fake, _CrossEntropy, loop_vmap(_op))
register(
    "fusion_cross_entropy_backward",
    _fake_backward,
    _CrossEntropyBackward,
    loop_vmap(_backward_op),
)
