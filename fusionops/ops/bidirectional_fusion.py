"""Interactive fusion of two sides: co-attention by one score matrix."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks, composition_profiles
from fusionops.ops._dtypes import accumulator, without_autocast
from fusionops.ops._library import apply, fold_vmap, operator, register

_op = operator("bidirectional_fusion")
_backward_op = operator("bidirectional_fusion_backward")


def bidirectional_fusion(
    user: Tensor,
    item: Tensor,
    user_value: Tensor | None = None,
    item_value: Tensor | None = None,
    *,
    user_mask: Tensor | None = None,
    item_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Each side's tokens as what they attend to on the other side, by one matrix of scores.

    Parameters
    ----------
    user, item : Tensor
        ``[B, N, D]`` and ``[B, M, D]``. float64, float32, bfloat16 or float16, of one dtype and
        any strides; under autocast in its dtype, as for ``torch.matmul``.
    user_value, item_value : Tensor, optional
        ``[B, N, Du]`` and ``[B, M, Di]``: what is summed; the sides themselves by default.
    user_mask, item_mask : Tensor, optional
        Bool, ``[B, N]`` or ``[N]``, and ``[B, M]`` or ``[M]``: True where a token is present. What
        stands in the masked places is never read, NaN included, and has gradient 0.
    scale : float, optional
        What products are multiplied by before both softmaxes; ``1 / sqrt(D)`` by default.

    Returns
    -------
    user_from_item : Tensor
        ``[B, N, Di]``: the softmax along each row of the scores times `item_value`.
    item_from_user : Tensor
        ``[B, M, Du]``: the softmax along each column times `user_value`. Both are zero where a
        token is missing, or has nothing to attend to.

    Raises
    ------
    TypeError
        An argument that is not a tensor of a dtype listed above, or not a number.
    ValueError
        Shapes or devices that do not belong together.

    Notes
    -----
    .. math::
        y^{\text{user}}_i = \sum_{j=1}^{M} \frac{\exp s_{ij}}{\sum_{l=1}^{M} \exp s_{il}}
        \, v^{\text{item}}_j,
        \qquad y^{\text{item}}_j = \sum_{i=1}^{N} \frac{\exp s_{ij}}{\sum_{l=1}^{N} \exp s_{lj}}
        \, v^{\text{user}}_i

        s_{ij} = \text{scale} \cdot u_i \cdot t_j

    with the tokens :math:`u_i` of `user` and :math:`t_j` of `item`, the values :math:`v` of both
    sides, and all sums over the tokens that are present.

    The co-attention of Lu et al. (2016), "Hierarchical question-image co-attention for visual
    question answering", in its parallel form. The ``N x M`` scores are computed once for both and
    not kept: memory is ``O(N + M)``. It can be differentiated once, toward all four tensors.

    Examples
    --------
    >>> import torch, fusionops
    >>> user, item = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    >>> from_item, from_user = fusionops.bidirectional_fusion(user, item)
    >>> from_item
    tensor([[[0.3333, 0.3333],
             [0.3333, 0.3333]]])
    """
    named = {"user": user, "item": item, "user_value": user_value, "item_value": item_value}
    given = {
        name: value
        for name, value in named.items()
        if name in ("user", "item") or value is not None
    }
    found = dict(zip(given, _checks.tokens(**given), strict=True))
    user, item = found["user"], found["item"]
    _checks.same_width(user, item)
    for name, side in (("user", user), ("item", item)):
        _checks.same_batch(name, side, "user", user)
        value = found.setdefault(f"{name}_value", side)
        if value.shape[:2] != side.shape[:2]:
            raise ValueError(
                f"{name}_value: expected shape [{side.shape[0]}, {side.shape[1]}, *] as {name} "
                f"has, got {_checks.describe(value)}"
            )
    user_mask = _checks.presence("user_mask", user_mask, "user", user)
    item_mask = _checks.presence("item_mask", item_mask, "item", item)
    scale = None if scale is None else float(_checks.number("scale", scale))
    server = backend.serving("bidirectional_fusion", user)
    if server != "kernels":
        serve = reference if server == "reference" else composition_profiles
        with without_autocast(user.device):
            fused: tuple[Tensor, Tensor] = serve.bidirectional_fusion(
                user,
                item,
                found["user_value"],
                found["item_value"],
                user_mask=user_mask,
                item_mask=item_mask,
                scale=1 / math.sqrt(max(user.shape[2], 1)) if scale is None else scale,
            )
            return fused
    # Sides that are their own values are read once, and their gradient is written once.
    values = (
        None if found[f"{name}_value"] is found[name] else found[f"{name}_value"]
        for name in ("user", "item")
    )
    tensors = _distinct(user, item, *values, user_mask, item_mask)
    from_item, from_user, *_ = apply(_Bidirectional, _op, *tensors, scale)
    return from_item, from_user


def _distinct(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors, each another object: Dynamo refuses one in two places of a Function."""
    return [
        t.view_as(t) if t is not None and any(t is s for s in tensors[:i]) else t
        for i, t in enumerate(tensors)
    ]


_Four = tuple[Tensor, Tensor, Tensor, Tensor]


class _Bidirectional(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        user: Tensor,
        item: Tensor,
        user_value: Tensor | None,
        item_value: Tensor | None,
        user_mask: Tensor | None,
        item_mask: Tensor | None,
        scale: float | None,
    ) -> _Four:
        result: _Four = _op(user, item, user_value, item_value, user_mask, item_mask, scale)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: _Four) -> None:
        ctx.mark_non_differentiable(*output[2:])
        ctx.save_for_backward(*output, *inputs[:6])
        ctx.scale = inputs[6]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad
        found = apply(
            _BidirectionalBackward,
            _backward_op,
            *grads[:2],
            *ctx.saved_tensors,
            ctx.scale,
            *needs[:4],
        )
        wanted = (g if needed else None for g, needed in zip(found, needs[:4], strict=True))
        return (*wanted, None, None, None)


class _BidirectionalBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
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
        result: _Four = _backward_op(
            grad_from_item, grad_from_user, from_item, from_user, user_log_sum, item_log_sum,
            user, item, user_value, item_value, user_mask, item_mask, scale,
            user_wanted, item_wanted, user_value_wanted, item_value_wanted,
        )  # fmt: skip
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError(
            "bidirectional_fusion can be differentiated once, not twice: use backend 'reference'"
        )


def _fake(
    user: Tensor,
    item: Tensor,
    user_value: Tensor | None,
    item_value: Tensor | None,
    *rest: object,
) -> _Four:
    user_value = user if user_value is None else user_value
    item_value = item if item_value is None else item_value
    batch, users, items = user.shape[0], user.shape[1], item.shape[1]
    sums = accumulator(user.dtype)
    return (
        user.new_empty((batch, users, item_value.shape[2])),
        item.new_empty((batch, items, user_value.shape[2])),
        user.new_empty((batch, users), dtype=sums),
        item.new_empty((batch, items), dtype=sums),
    )


def _fake_backward(*args: Any) -> _Four:
    user, item, user_value, item_value = args[6:10]

    def gradient(side: Tensor, wanted: bool) -> Tensor:
        return side.new_empty((side.shape[0] if wanted else 0, *side.shape[1:]))

    return (
        gradient(user, args[13]),
        gradient(item, args[14]),
        gradient(user if user_value is None else user_value, args[15] and user_value is not None),
        gradient(item if item_value is None else item_value, args[16] and item_value is not None),
    )


register("bidirectional_fusion", _fake, _Bidirectional, fold_vmap(_op))
register(
    "bidirectional_fusion_backward",
    _fake_backward,
    _BidirectionalBackward,
    fold_vmap(_backward_op),
)
