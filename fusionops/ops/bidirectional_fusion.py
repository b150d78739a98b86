"""Interactive fusion of two sides: co-attention by one score matrix."""

from __future__ import annotations

import math

from torch import Tensor

from fusionops import reference
from fusionops.ops import _checks
from fusionops.ops._dtypes import without_autocast


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
    scale = 1 / math.sqrt(max(user.shape[2], 1)) if scale is None else scale
    scale = _checks.number("scale", scale)
    with without_autocast(user.device):
        return reference.bidirectional_fusion(
            user,
            item,
            found["user_value"],
            found["item_value"],
            user_mask=user_mask,
            item_mask=item_mask,
            scale=scale,
        )
