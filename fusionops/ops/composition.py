"""The operators as chunked compositions of PyTorch, for devices without kernels of ours.

They keep the contract (ties, exclusion, NaN, gradients) and never hold ``U x P`` unless it is the
result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionops import reference
from fusionops.ops._dtypes import accumulator
from fusionops.ops._ragged import Ragged
from fusionops.ops.normalization import Norm

# Scores held at once; above it the catalogue is walked in chunks.
CHUNK_ELEMENTS = 1 << 22


def normalized(user: Tensor, item: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Both sides with the normalisation applied, in the accumulation dtype."""
    sums = accumulator(user.dtype)
    user, item = user.to(sums), item.to(sums)
    if norm.normalization == "matrix":
        gram = item.mT @ item
        weights = reference.gram_power(gram, norm.power, norm.ridge, item.shape[-2])
        return user @ weights, item
    if norm.normalization == "cosine":
        user = user * reference.inverse_norm(user, norm.eps).unsqueeze(-1)
    if norm.normalization in ("cosine", "diagonal"):
        item = item * reference.inverse_norm(item, norm.eps).unsqueeze(-1)
    return user, item


def fusion_matrix(user: Tensor, item: Tensor, norm: Norm) -> Tensor:
    """See :func:`fusionops.fusion_matrix`."""
    left, right = normalized(user, item, norm)
    return (left @ right.mT).to(user.dtype)


def fusion_recommend(user: Tensor, item: Tensor, values: Tensor, norm: Norm) -> Tensor:
    """See :func:`fusionops.fusion_recommend`."""
    left, right = normalized(user, item, norm)
    return (left @ (right.mT @ values.to(right.dtype))).to(user.dtype)


def fusion_topk(
    user: Tensor,
    item: Tensor,
    k: int,
    norm: Norm,
    item_bias: Tensor | None,
    *,
    exclude: Ragged | None,
    allowed: Tensor | None,
    candidates: Ragged | None,
) -> tuple[Tensor, Tensor]:
    """See :func:`fusionops.fusion_topk`: the best of each chunk are merged with those so far."""
    left, right = normalized(user, item, norm)
    with torch.no_grad():
        best = left.new_full((len(user), k), -torch.inf)
        indices = torch.full_like(best, -1, dtype=torch.int64)
        chunk = max(k, CHUNK_ELEMENTS // max(len(user), 1), 1)
        for begin in range(0, len(item), chunk):
            part = slice(begin, min(begin + chunk, len(item)))
            scores = left @ right[part].mT
            if item_bias is not None:
                scores = scores + item_bias[part]
            barred = _barred(scores, part, exclude, allowed, candidates)
            scores = scores.masked_fill(barred | scores.isnan(), -torch.inf)
            best, indices = _merge(best, indices, scores, begin)
        indices = indices.masked_fill(best == -torch.inf, -1)
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (left, right, item_bias)
    ):
        best = _rescored(left, right, item_bias, indices)
    return best, indices


def _barred(
    scores: Tensor,
    part: slice,
    exclude: Ragged | None,
    allowed: Tensor | None,
    candidates: Ragged | None,
) -> Tensor:
    rows, columns = scores.shape
    barred = torch.zeros_like(scores, dtype=torch.bool)
    if exclude is not None:
        barred |= reference.ragged_mask(exclude, rows, columns, part.start)
    if allowed is not None:
        barred |= ~allowed[..., part]
    if candidates is not None:
        barred |= ~reference.ragged_mask(candidates, rows, columns, part.start)
    return barred


def _merge(best: Tensor, indices: Tensor, scores: Tensor, begin: int) -> tuple[Tensor, Tensor]:
    """The k best of a list and a chunk whose indices are all higher: a stable sort keeps ties."""
    columns = torch.arange(begin, begin + scores.shape[1], device=scores.device)
    both = torch.cat([best, scores], 1)
    order = both.argsort(dim=1, descending=True, stable=True)[:, : best.shape[1]]
    named = torch.cat([indices, columns.expand_as(scores)], 1)
    return both.gather(1, order), named.gather(1, order)


def _rescored(left: Tensor, right: Tensor, item_bias: Tensor | None, indices: Tensor) -> Tensor:
    """The scores of the chosen pairs once more, now with a gradient: ``U x k x D`` in memory."""
    chosen = indices.clamp_min(0)
    scores = (left.unsqueeze(1) * right[chosen]).sum(-1)
    if item_bias is not None:
        scores = scores + item_bias[chosen]
    return scores.masked_fill(indices < 0, -torch.inf)
