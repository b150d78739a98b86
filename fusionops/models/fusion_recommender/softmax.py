"""Softmax over the catalogue for several targets of each user, one row of logits a user."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from fusionops import ops
from fusionops.ops._dtypes import accumulator

Ragged = tuple[Tensor, Tensor]

_BELOW = 20.0
"""exp(-20) is less than the rounding of a sum in float32."""


def softmax_loss(
    user: Tensor,
    item: Tensor,
    targets: Tensor,
    of_user: Tensor,
    positives: Ragged,
    *,
    scale: Tensor | float,
    bias: Tensor | None = None,
) -> Tensor:
    r"""The mean cross-entropy of each target against the items that its user has not had.

    Parameters
    ----------
    user, item : Tensor
        ``[B, D]`` and ``[P, D]``, whose products are the fusion matrix.
    targets, of_user : Tensor
        ``int64 [N]``: the items asked for, and of whom.
    positives : pair of Tensor
        Ragged lists ``int64 [B + 1]`` and ``[n]`` of the items of each user: no negatives. They
        hold the targets.
    scale : Tensor or float
        On the fusion matrix.
    bias : Tensor, optional
        ``[P]``, on the logits.

    Returns
    -------
    Tensor
        A scalar.

    Notes
    -----
    With :math:`N_u` the items that are no positives of u,

    .. math::
        \ell_{ut} = \log \Bigl( e^{z_{ut}} + \sum_{j \in N_u} e^{z_{uj}} \Bigr) - z_{ut}
                  = - \log \sigma (z_{ut} - s_u),
        \qquad s_u = \log \sum_{j \in N_u} e^{z_{uj}}

    The sum does not depend on the target, so there is a row of logits for each user and not for
    each target. It comes from the cross-entropy of an item that is put behind the others, so far
    below every sum that it adds nothing to any.
    """
    logits = partial(_logits, user, item, scale, bias)
    negative, found = _a_negative(positives, len(item))
    batch = torch.arange(len(user), device=user.device)
    with torch.no_grad():  # a sum is at least as high as any of its logits
        lowest = logits(batch, negative).min() - _BELOW
    biases = user.new_zeros(len(item), dtype=lowest.dtype) if bias is None else bias
    rows = ops.fusion_cross_entropy(
        user,
        torch.cat([item, item.new_zeros(1, item.shape[1])]),
        torch.full_like(batch, len(item)),
        normalization="none",
        scale=scale,
        item_bias=torch.cat([biases, lowest.reshape(1)]),
        exclude=positives,
        reduction="none",
    )
    total = (rows + lowest).masked_fill(~found, -torch.inf)
    return -nn.functional.logsigmoid(logits(of_user, targets) - total[of_user]).mean()


def _logits(
    user: Tensor, item: Tensor, scale: Tensor | float, bias: Tensor | None, u: Tensor, p: Tensor
) -> Tensor:
    """Those of pairs, in the accumulation dtype."""
    products = (user[u] * item[p]).sum(1, dtype=accumulator(user.dtype))
    return scale * products if bias is None else scale * products + bias[p]


def _a_negative(positives: Ragged, items: int) -> tuple[Tensor, Tensor]:
    """The first item ``[B]`` that is not in each list, and whether there is one.

    Of n positives one of the first n + 1 items is none.
    """
    offsets, values = positives
    lengths = offsets.diff()
    users = torch.arange(len(lengths), device=offsets.device)
    starts = offsets[:-1] + users  # of n + 1 places each, where the items up to n are crossed out
    entry = users.repeat_interleave(lengths, output_size=len(values))
    place = users.repeat_interleave(lengths + 1, output_size=len(values) + len(users))
    crossed = (starts[entry] + values)[values <= lengths[entry]]
    first = torch.arange(len(place), device=offsets.device) - starts[place]
    first = first.index_fill(0, crossed, items)
    negative = torch.full_like(lengths, items).scatter_reduce(0, place, first, "amin")
    found = negative < items
    return negative.where(found, 0), found
