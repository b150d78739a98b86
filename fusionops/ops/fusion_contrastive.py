"""Symmetric in-batch contrastive loss (InfoNCE), rows and columns in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks, composition_losses
from fusionops.ops._dtypes import accumulator, without_autocast
from fusionops.ops._library import apply, loop_vmap, operator, register
from fusionops.ops.bilinear import spread, total
from fusionops.ops.normalization import Norm, normalize_flat

_op = operator("fusion_contrastive")
_backward_op = operator("fusion_contrastive_backward")


def fusion_contrastive(
    user: Tensor,
    item: Tensor,
    *,
    normalization: str = "diagonal",
    power: float = 0.5,
    ridge: float = 0.0,
    eps: float = 0.0,
    scale: float | Tensor = 1.0,
    ids: Tensor | None = None,
) -> Tensor:
    r"""The mean cross-entropy of rows and columns of ``scale * F`` against the diagonal.

    Parameters
    ----------
    user, item : Tensor
        ``[B, D]`` each, as for :func:`fusionops.fusion_matrix`; row i of one belongs to row i of
        the other.
    normalization, power, ridge, eps
        As for :func:`fusionops.fusion_matrix`; ``"cosine"`` is the usual choice.
    scale : float or Tensor
        A number or a 0-d floating tensor: the inverse temperature.
    ids : Tensor, optional
        ``[B]``, integers, what each row is of, e.g. the item's number. Two rows with one id are
        not each other's negatives.

    Returns
    -------
    Tensor
        A scalar, float64 for float64 inputs and float32 otherwise; NaN for an empty batch.

    Raises
    ------
    TypeError, ValueError
        As for :func:`fusionops.fusion_matrix`.

    Notes
    -----
    .. math::
        L = \frac{1}{2B} \sum_{i=1}^{B} \left( \log \sum_{j \in \mathcal{N}_i} \exp z_{ij}
        + \log \sum_{j \in \mathcal{N}_i} \exp z_{ji} - 2 z_{ii} \right),
        \qquad z = \text{scale} \cdot F

    with :math:`F` of :func:`fusionops.fusion_matrix`, and :math:`\mathcal{N}_i` the row itself and
    all rows of another id.

    The loss of Radford et al. (2021), "Learning transferable visual models from natural language
    supervision", with false negatives masked. Memory is ``O(B D)``: the ``B x B`` logits never
    exist, forward or backward. It can be differentiated once, toward `user`, `item` and `scale`.

    Examples
    --------
    >>> import torch, fusionops
    >>> fusionops.fusion_contrastive(torch.eye(3), torch.eye(3), scale=2.0)
    tensor(0.2395)
    """
    norm = Norm(*_checks.norm(normalization, power, ridge, eps))
    user, item = _checks.sides(batched=False, user=user, item=item)
    _checks.same_width(user, item)
    if user.shape[0] != item.shape[0]:
        raise ValueError(
            f"item: expected {user.shape[0]} rows as user has, got {_checks.describe(item)}"
        )
    scale = _checks.scale(scale, user)
    if ids is not None:
        ids = _checks.integers("ids", ids, user.shape[0], user)
    server = backend.serving("fusion_contrastive", user)
    if server == "reference":
        with without_autocast(user.device):
            return reference.fusion_contrastive(user, item, scale=scale, ids=ids, **norm._asdict())
    if server == "composition":
        with without_autocast(user.device):
            return composition_losses.fusion_contrastive(user, item, norm, scale, ids)
    user, item, user_scale, item_scale = normalize_flat(user, item, norm)
    if user is item:  # Dynamo refuses one tensor in two places of a Function
        item = item.view_as(item)
    user_scale = spread(scale, user_scale, user)
    rows, _ = apply(_Contrastive, _op, user, item, user_scale, item_scale, ids)
    # Divided by a tensor: an empty batch is 0 / 0, NaN, and not an exception.
    loss: Tensor = total(rows) / rows.new_full((), user.shape[0])
    return loss


class _Contrastive(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        user: Tensor,
        item: Tensor,
        user_scale: Tensor | None,
        item_scale: Tensor | None,
        ids: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = _op(user, item, user_scale, item_scale, ids)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], *inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        statistics, *inputs = ctx.saved_tensors
        needs = ctx.needs_input_grad
        wanted = needs[0] or needs[2], needs[1] or needs[3]
        found = apply(_ContrastiveBackward, _backward_op, grad, statistics, *inputs, *wanted)
        return (*(g if needed else None for g, needed in zip(found, needs[:4], strict=True)), None)


_Four = tuple[Tensor, Tensor, Tensor, Tensor]


class _ContrastiveBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad: Tensor,
        statistics: Tensor,
        user: Tensor,
        item: Tensor,
        user_scale: Tensor | None,
        item_scale: Tensor | None,
        ids: Tensor | None,
        user_wanted: bool,
        item_wanted: bool,
    ) -> _Four:
        result: _Four = _backward_op(
            grad, statistics, user, item, user_scale, item_scale, ids, user_wanted, item_wanted
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "fusion_contrastive can be differentiated once, not twice: use backend 'reference'"
        )


def _fake(user: Tensor, item: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
    sums, rows = accumulator(user.dtype), user.shape[0]
    return user.new_empty((rows,), dtype=sums), user.new_empty((4, rows), dtype=sums)


def _fake_backward(
    grad: Tensor,
    statistics: Tensor,
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
    ids: Tensor | None,
    user_wanted: bool,
    item_wanted: bool,
) -> _Four:
    sums, depth = accumulator(user.dtype), user.shape[1]
    users = user.shape[0] if user_wanted else 0
    items = item.shape[0] if item_wanted else 0
    return (
        user.new_empty((users, depth)),
        item.new_empty((items, depth)),
        user.new_empty((users,), dtype=sums),
        item.new_empty((items,), dtype=sums),
    )


register("fusion_contrastive", _fake, _Contrastive, loop_vmap(_op))
register(
    "fusion_contrastive_backward", _fake_backward, _ContrastiveBackward, loop_vmap(_backward_op)
)
