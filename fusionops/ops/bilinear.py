"""The two native products, each of which is the other's gradient.

* ``scores``:   ``out[u, p] = user_scale[u] item_scale[p] sum_d user[u, d] item[p, d]``
* ``contract``: ``out[m, n] = sum_k left[k, m] scale[k] right[k, n]``

Both take a batch dimension in front. Every operator with a fusion matrix is made of these two, so
gradients of any order come by composition, and all sums run in the kernels' fixed order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fusionops.ops._dtypes import accumulator
from fusionops.ops._library import apply, fold_vmap, operator, register

_scores_op = operator("fusion_matrix")
_contract_op = operator("fusion_contract")


def scores(
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None = None,
    item_scale: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Scaled products of rows, differentiable: ``[B, U, D] [B, P, D] -> [B, U, P]``.

    Scales are ``[B, U]`` and ``[B, P]`` in the accumulation dtype; the result has `dtype`, or that
    of `item`.
    """
    result: Tensor = apply(_Scores, _scores_op, user, item, user_scale, item_scale, dtype)
    return result


def contract(
    left: Tensor, right: Tensor, scale: Tensor | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """``left^T diag(scale) right``, differentiable: ``[B, K, M] [B, K, N] -> [B, M, N]``."""
    if left is right:  # a Gram matrix; Dynamo refuses one tensor in two places of a Function
        right = right.view_as(right)
    result: Tensor = apply(_Contract, _contract_op, left, right, scale, dtype)
    return result


def total(rows: Tensor) -> Tensor:
    """The sum of ``[N]`` in the kernels' fixed order; ``torch.sum`` splits by threads.

    In float64, as that order is a long chain. On a GPU, ``torch.sum`` splits by the shape.
    """
    if rows.device.type == "cuda":
        return rows.double().sum().to(rows.dtype)
    wide = rows.double().unsqueeze(-1).unsqueeze(0)
    return contract(wide, wide.new_ones(()).expand(wide.shape)).reshape(()).to(rows.dtype)


def spread(factor: float | Tensor, scale: Tensor | None, like: Tensor) -> Tensor | None:
    """A scale per row of `like`, ``[N]``, times one factor for all; None where that is all ones.

    The gradient toward the factor is a sum in the kernels' fixed order.
    """
    sums, rows = accumulator(like.dtype), like.shape[0]
    if isinstance(factor, Tensor):
        each = like.new_ones((), dtype=sums).expand(rows) if scale is None else scale
        return scores(each.reshape(1, rows, 1), factor.reshape(1, 1, 1)).reshape(rows)
    if factor == 1.0:
        return scale
    return like.new_full((rows,), factor, dtype=sums) if scale is None else scale * factor


def row_products(left: Tensor, right: Tensor) -> Tensor:
    """The product of each row of sums with its row of the other side, ``[*, N, D] -> [*, N]``.

    A single one is left to the kernel: ``torch.sum`` splits it by threads. Of several it splits the
    rows, and is faster than a product of batches of one row.
    """
    *rows, width = left.shape
    if math.prod(rows) != 1 or left.device.type == "cuda":
        return (left * right).sum(-1)
    products = scores(left.reshape(1, 1, width), right.reshape(1, 1, width), dtype=left.dtype)
    return products.reshape(rows)


def scaled(sums: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Rows of sums times the scale of each row, if there is one, in `dtype`."""
    return (sums if scale is None else sums * scale.unsqueeze(-1)).to(dtype)


class _Scores(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        user: Tensor,
        item: Tensor,
        user_scale: Tensor | None,
        item_scale: Tensor | None,
        dtype: torch.dtype | None,
    ) -> Tensor:
        result: Tensor = _scores_op(user, item, user_scale, item_scale, dtype)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        user, item, user_scale, item_scale = ctx.saved_tensors
        sums = accumulator(user.dtype)
        grads: list[Tensor | None] = [None] * 5
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            toward_user = contract(grad.mT, item, item_scale, sums)
            grads[0] = scaled(toward_user, user_scale, user.dtype)
            if ctx.needs_input_grad[2]:
                grads[2] = row_products(toward_user, user)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[3]:
            toward_item = contract(grad, user, user_scale, sums)
            grads[1] = scaled(toward_item, item_scale, item.dtype)
            if ctx.needs_input_grad[3]:
                grads[3] = row_products(toward_item, item)
        return tuple(grads)


class _Contract(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        left: Tensor, right: Tensor, scale: Tensor | None, dtype: torch.dtype | None
    ) -> Tensor:
        result: Tensor = _contract_op(left, right, scale, dtype)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        left, right, scale = ctx.saved_tensors
        sums = accumulator(left.dtype)
        grads: list[Tensor | None] = [None] * 4
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            toward_left = scores(right, grad, dtype=sums)
            grads[0] = scaled(toward_left, scale, left.dtype)
            if ctx.needs_input_grad[2]:
                grads[2] = row_products(toward_left, left)
        if ctx.needs_input_grad[1]:
            grads[1] = scores(left, grad.mT, scale, dtype=right.dtype)
        return tuple(grads)


def _fake_scores(
    user: Tensor,
    item: Tensor,
    user_scale: Tensor | None,
    item_scale: Tensor | None,
    dtype: torch.dtype | None,
) -> Tensor:
    shape = (user.shape[0], user.shape[1], item.shape[1])
    return user.new_empty(shape, dtype=dtype or item.dtype)


def _fake_contract(
    left: Tensor, right: Tensor, scale: Tensor | None, dtype: torch.dtype | None
) -> Tensor:
    shape = (left.shape[0], left.shape[2], right.shape[2])
    return left.new_empty(shape, dtype=dtype or right.dtype)


register("fusion_matrix", _fake_scores, _Scores, fold_vmap(_scores_op))
register("fusion_contract", _fake_contract, _Contract, fold_vmap(_contract_op))
