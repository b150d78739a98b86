"""A normalisation is a map of the user side, a scale per user, or a scale per item.

That is all the kernels know. With ``s_jj = item_j . item_j``:

========== ================================================= ============ =================
name       user side                                         user scale   item scale
========== ================================================= ============ =================
diagonal   as it is                                          none         1 / sqrt(s_jj + eps)
matrix     ``user @ (item^T item + ridge I)^(-power)``       none         none
cosine     as it is                                          1 / |user|   1 / |item|
none       as it is                                          none         none
========== ================================================= ============ =================

``matrix`` is ``S_UP (S_PP + ridge I)^(-power)`` by the push-through identity
``item^T f(item item^T) = f(item^T item) item^T``: the P x P matrix never exists.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from fusionops.ops._dtypes import accumulator
from fusionops.ops.bilinear import contract, scores
from fusionops.ops.gram_power import gram_power
from fusionops.ops.inverse_norm import inverse_norm


class Norm(NamedTuple):
    """The ``norm`` keywords of an operator."""

    normalization: str = "diagonal"
    power: float = 0.5
    ridge: float = 0.0
    eps: float = 0.0


class Normalized(NamedTuple):
    """What the kernels take: ``[B, U, D]``, ``[B, P, D]`` and scales ``[B, U]``, ``[B, P]``."""

    user: Tensor
    item: Tensor
    user_scale: Tensor | None
    item_scale: Tensor | None


def normalize_flat(user: Tensor, item: Tensor, norm: Norm) -> Normalized:
    """:func:`normalize` of ``[U, D]`` and ``[P, D]``, without the batch dimension."""
    sides = normalize(user.unsqueeze(0), item.unsqueeze(0), norm)
    scales = [None if scale is None else scale.squeeze(0) for scale in sides[2:]]
    return Normalized(sides.user.squeeze(0), sides.item.squeeze(0), *scales)


def normalize(user: Tensor, item: Tensor, norm: Norm) -> Normalized:
    """Turns a normalisation into what the kernels know; differentiable in both sides.

    With ``matrix`` the mapped user side is in the accumulation dtype, so that half inputs are
    rounded once, at the result.
    """
    if norm.normalization == "diagonal":
        return Normalized(user, item, None, inverse_norm(item, norm.eps))
    if norm.normalization == "cosine":
        return Normalized(user, item, inverse_norm(user, norm.eps), inverse_norm(item, norm.eps))
    if norm.normalization == "matrix":
        gram = contract(item, item, dtype=accumulator(item.dtype))
        weights = gram_power(gram, norm.power, norm.ridge, item.shape[-2])
        return Normalized(scores(user, weights), item, None, None)
    return Normalized(user, item, None, None)
