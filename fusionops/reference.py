"""The operators in plain PyTorch: the truth in tests, the eager baseline in benchmarks.

Each function is its formula, slow and large by design: it may hold ``[U, P]``. In float64 these are
the values every kernel is measured against, and ``use_backend("reference")`` serves them.
Arguments are taken as already checked and ragged lists as ``(offsets, indices)`` pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

Ragged = tuple[Tensor, Tensor]


def inverse_norm(vectors: Tensor, eps: float) -> Tensor:
    """``(x.x + eps)^(-1/2)`` per row, and 0 for a row of zeros (value and gradient)."""
    # By the length and not its square, whose power -3/2 leaves float32 in the gradient.
    length = torch.linalg.vector_norm(vectors, dim=-1)
    present = length > 0
    length = torch.where(present, length, 1.0)
    inverse = torch.hypot(length, torch.full_like(length, eps**0.5)).reciprocal()
    return torch.where(present, inverse, 0.0)


def gram_power(gram: Tensor, power: float, ridge: float, rows: int) -> Tensor:
    """``f(G)`` with ``f(x) = (x + ridge)^(-power)`` on the row space of ``G`` and 0 off it."""
    values, vectors = torch.linalg.eigh(gram)
    largest = values[..., -1:].clamp_min(0)
    cutoff = max(rows, gram.shape[-1]) * torch.finfo(gram.dtype).eps * largest
    kept = values > cutoff
    weights = torch.where(kept, torch.where(kept, values + ridge, 1.0).pow(-power), 0.0)
    result: Tensor = (vectors * weights.unsqueeze(-2)) @ vectors.mT
    return result


def fusion_matrix(user: Tensor, item: Tensor, **norm: object) -> Tensor:
    """``F = S_UP / sqrt(S_PP)``; see :func:`fusionops.fusion_matrix`."""
    return _scores(user, item, **norm).to(user.dtype)  # type: ignore[arg-type]


def _scores(
    user: Tensor,
    item: Tensor,
    *,
    normalization: str = "diagonal",
    power: float = 0.5,
    ridge: float = 0.0,
    eps: float = 0.0,
) -> Tensor:
    """F before it is rounded to the dtype of the inputs: float64 for float64, else float32."""
    sums = torch.float64 if user.dtype == torch.float64 else torch.float32
    user, item = user.to(sums), item.to(sums)
    if normalization == "matrix":
        user = user @ gram_power(item.mT @ item, power, ridge, item.shape[-2])
    scores = user @ item.mT
    if normalization == "cosine":
        scores = scores * inverse_norm(user, eps).unsqueeze(-1)
    if normalization in ("cosine", "diagonal"):
        scores = scores * inverse_norm(item, eps).unsqueeze(-2)
    return scores


def fusion_recommend(user: Tensor, item: Tensor, values: Tensor, **norm: object) -> Tensor:
    """``R = F @ values``; see :func:`fusionops.fusion_recommend`."""
    scores = _scores(user, item, **norm)  # type: ignore[arg-type]
    return (scores @ values.to(scores.dtype)).to(values.dtype)


def ragged_mask(ragged: Ragged, rows: int, columns: int, begin: int = 0) -> Tensor:
    """A ragged list of columns per row as a bool mask of ``columns`` columns from ``begin`` on."""
    # No shape depends on a value, so that torch.compile can trace it: what is outside goes to a
    # column of its own.
    offsets, indices = ragged
    place = torch.arange(len(indices), device=indices.device)
    row = torch.searchsorted(offsets[1:].contiguous(), place, right=True)
    inside = (indices >= begin) & (indices < begin + columns)
    mask = torch.zeros(rows, columns + 1, dtype=torch.bool, device=indices.device)
    mask[row, torch.where(inside, indices - begin, columns)] = True
    return mask[:, :columns]


def fusion_topk(
    user: Tensor,
    item: Tensor,
    k: int,
    *,
    item_bias: Tensor | None = None,
    exclude: Ragged | None = None,
    allowed: Tensor | None = None,
    candidates: Ragged | None = None,
    **norm: object,
) -> tuple[Tensor, Tensor]:
    """The k best entries of each row of ``F + item_bias``; see :func:`fusionops.fusion_topk`."""
    scores = _scores(user, item, **norm)  # type: ignore[arg-type]
    if item_bias is not None:
        scores = scores + item_bias.to(scores.dtype)
    users, items = scores.shape
    admitted = ~scores.isnan()
    if exclude is not None:
        admitted = admitted & ~ragged_mask(exclude, users, items)
    if allowed is not None:
        admitted = admitted & allowed
    if candidates is not None:
        admitted = admitted & ragged_mask(candidates, users, items)
    scores = scores.masked_fill(~admitted, -torch.inf)
    # A stable descending sort is the tie rule: equal scores stay in ascending index order.
    indices = torch.argsort(scores, dim=-1, descending=True, stable=True)[:, :k]
    scores = scores.gather(1, indices)
    indices = indices.masked_fill(scores == -torch.inf, -1)
    padding = k - scores.shape[1]
    if padding > 0:
        scores = torch.nn.functional.pad(scores, (0, padding), value=-torch.inf)
        indices = torch.nn.functional.pad(indices, (0, padding), value=-1)
    return scores, indices


def _logits(
    user: Tensor, item: Tensor, scale: float | Tensor, item_bias: Tensor | None, **norm: object
) -> Tensor:
    """``scale * F + item_bias`` in the dtype of losses."""
    logits = _scores(user, item, **norm) * scale  # type: ignore[arg-type]
    return logits if item_bias is None else logits + item_bias.to(logits.dtype)


def fusion_cross_entropy(
    user: Tensor,
    item: Tensor,
    target: Tensor,
    *,
    scale: float | Tensor = 1.0,
    item_bias: Tensor | None = None,
    exclude: Ragged | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    **norm: object,
) -> Tensor:
    """Cross-entropy over the catalogue; see :func:`fusionops.fusion_cross_entropy`."""
    logits = _logits(user, item, scale, item_bias, **norm)
    ignored = target == ignore_index
    own = target.masked_fill(ignored, 0).unsqueeze(1)
    negatives = torch.ones_like(logits, dtype=torch.bool)
    if exclude is not None:
        negatives = ~ragged_mask(exclude, *logits.shape)
    if len(item) == 0:  # then all are ignored
        rows = logits.sum(1)
    else:
        kept = negatives.scatter(1, own, True)
        log_p = logits.masked_fill(~kept, -torch.inf).log_softmax(1)
        rows = -(1 - label_smoothing) * log_p.gather(1, own).squeeze(1)
        if label_smoothing > 0:
            spread = log_p.masked_fill(~kept, 0).sum(1) / kept.sum(1)
            rows = rows - label_smoothing * spread
    rows = rows.masked_fill(ignored, 0)
    if reduction == "none":
        return rows
    return rows.sum() if reduction == "sum" else rows.sum() / (~ignored).sum()


def fusion_contrastive(
    user: Tensor,
    item: Tensor,
    *,
    scale: float | Tensor = 1.0,
    ids: Tensor | None = None,
    **norm: object,
) -> Tensor:
    """Symmetric InfoNCE; see :func:`fusionops.fusion_contrastive`."""
    logits = _logits(user, item, scale, None, **norm)
    if ids is not None:
        same = (ids.unsqueeze(1) == ids).fill_diagonal_(False)
        logits = logits.masked_fill(same, -torch.inf)
    diagonal = logits.diagonal()
    both = logits.logsumexp(1) + logits.logsumexp(0) - 2 * diagonal
    return both.sum() / (2 * len(user)) if len(user) else both.sum() / both.new_zeros(())
