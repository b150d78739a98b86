"""Inverse row norms, ``s = (x.x + eps)^(-1/2)``, and 0 for a row of zeros."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionops.ops._dtypes import accumulator
from fusionops.ops._library import apply, fold_vmap, operator, register

_op = operator("inverse_norm")


def inverse_norm(x: Tensor, eps: float = 0.0) -> Tensor:
    """The scale behind ``normalization="diagonal"`` and ``"cosine"``: ``[B, N, D] -> [B, N]``.

    The result is float64 for float64 and float32 otherwise. The gradient is ``-s^3 x``, so a row
    of zeros has value 0 and gradient 0.
    """
    result: Tensor = apply(_InverseNorm, _op, x, eps)
    return result


class _InverseNorm(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, eps: float) -> Tensor:
        result: Tensor = _op(x, eps)
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, scale = ctx.saved_tensors
        # Not scale.pow(3), which leaves float32 where the norm is 1e-13 or 1e13: the gradient, a
        # product with x, brings it back. Per row, as passes over x are what this costs.
        factor = -(grad * scale * scale * scale)
        return (x * factor.unsqueeze(-1)).to(x.dtype), None


def _fake(x: Tensor, eps: float) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=accumulator(x.dtype))


register("inverse_norm", _fake, _InverseNorm, fold_vmap(_op))
