"""The operators in plain PyTorch: the truth in tests, the eager baseline in benchmarks.

Each function is its formula, slow and large by design: it may hold ``[U, P]``. In float64 these are
the values every kernel is measured against, and ``use_backend("reference")`` serves them.
Arguments are taken as already checked and ragged lists as ``(offsets, indices)`` pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

Ragged = tuple[Tensor, Tensor]


def inverse_norm(vectors: Tensor, eps: float, dtype: torch.dtype | None = None) -> Tensor:
    """``(x.x + eps)^(-1/2)`` per row in `dtype`, and 0 for a row of zeros (value and gradient)."""
    # By the length and not its square, whose power -3/2 leaves float32 in the gradient.
    length = torch.linalg.vector_norm(vectors, dim=-1, dtype=dtype)
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


def _blank(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens ``[B, M, D]`` with zeros where they are missing: 0 times NaN would be NaN."""
    sums = torch.float64 if tokens.dtype == torch.float64 else torch.float32
    tokens = tokens.to(sums)
    return tokens if mask is None else tokens.masked_fill(~mask.unsqueeze(-1), 0)


def _softmax(scores: Tensor, present: Tensor | None, dim: int = -1) -> Tensor:
    """The softmax over what is present; zeros, with gradient 0, where nothing is."""
    if present is not None:
        scores = scores.masked_fill(~present, -torch.inf)
    if scores.shape[dim] == 0:
        return scores
    nothing = (scores == -torch.inf).all(dim, keepdim=True)
    return scores.masked_fill(nothing, 0).softmax(dim).masked_fill(nothing, 0)


def weighted_fusion(values: Tensor, logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax-weighted sum over the tokens present; see :func:`fusionops.weighted_fusion`."""
    tokens = _blank(values, mask)
    logits = logits.to(tokens.dtype).expand(tokens.shape[:2])
    weights = _softmax(logits, mask)
    return (weights.unsqueeze(-1) * tokens).sum(1).to(values.dtype)


# Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
_PHILOX_FACTORS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEYS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


def philox(seed: Tensor, counter: Tensor) -> Tensor:
    """The four 32-bit numbers of each 64-bit `counter` under a 64-bit `seed`, ``[..., 4]``."""

    def halves(x: Tensor) -> tuple[Tensor, Tensor]:
        return (x >> 32) & _WORD, x & _WORD

    high, low = halves(counter)
    zero = torch.zeros_like(counter)
    state, (key1, key0) = (low, high, zero, zero), halves(seed)
    for _ in range(10):
        # int64 products wrap around, which leaves the bits of the unsigned ones.
        high0, low0 = halves(state[0] * _PHILOX_FACTORS[0])
        high1, low1 = halves(state[2] * _PHILOX_FACTORS[1])
        state = (high1 ^ state[1] ^ key0, low1, high0 ^ state[3] ^ key1, low0)
        key0, key1 = (key0 + _PHILOX_KEYS[0]) & _WORD, (key1 + _PHILOX_KEYS[1]) & _WORD
    return torch.stack(state, -1)


def dropout_kept(
    shape: torch.Size | tuple[int, ...], dropout_p: float, seed: Tensor, first: int = 0
) -> Tensor:
    """Which of the weights ``[B, H, Q, M]`` from number `first` on a dropout with `seed` keeps.

    Weight number e in row-major order has the e % 4-th number of ``philox(seed, e // 4)``, and is
    dropped where that number's upper 24 bits are below ``round(dropout_p * 2^24)``.
    """
    count = torch.Size(shape).numel()
    counter = torch.arange(first // 4, (first + count + 3) // 4, device=seed.device)
    words = philox(seed.reshape(()), counter).flatten()[first % 4 :][:count]
    return ((words >> 8) >= round(dropout_p * (1 << 24))).view(shape)


def attention_fusion(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    num_heads: int = 1,
    scale: float,
    query_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: Tensor | None = None,
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """Attention over tokens, and its weights; see :func:`fusionops.attention_fusion`.

    `first` is the number that the first weight has for dropout.
    """
    query = query.expand(key.shape[0], *query.shape[1:])
    heads = [
        _blank(side, present)
        .unflatten(-1, (num_heads, side.shape[-1] // num_heads))
        .transpose(1, 2)
        for side, present in ((query, query_mask), (key, mask), (value, mask))
    ]
    scores = scale * (heads[0] @ heads[1].mT)
    present = None if mask is None else mask[:, None, None, :]
    weights = _softmax(scores, present)
    if query_mask is not None:
        weights = weights.masked_fill(~query_mask[:, None, :, None], 0)
    if dropout_p > 0 and seed is not None:
        kept = dropout_kept(weights.shape, dropout_p, seed, first)
        weights = weights * kept / (1 - dropout_p) if dropout_p < 1 else weights * 0
    fused = (weights @ heads[2]).transpose(1, 2).flatten(2)
    return fused.to(query.dtype), weights.to(query.dtype)


def bidirectional_fusion(
    user: Tensor,
    item: Tensor,
    user_value: Tensor,
    item_value: Tensor,
    *,
    user_mask: Tensor | None = None,
    item_mask: Tensor | None = None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Co-attention by one score matrix; see :func:`fusionops.bidirectional_fusion`."""
    dtype = user.dtype
    user, user_value = _blank(user, user_mask), _blank(user_value, user_mask)
    item, item_value = _blank(item, item_mask), _blank(item_value, item_mask)
    scores = scale * (user @ item.mT)
    present = torch.ones_like(scores, dtype=torch.bool)
    if user_mask is not None:
        present = present & user_mask.unsqueeze(2)
    if item_mask is not None:
        present = present & item_mask.unsqueeze(1)
    from_item = _softmax(scores, present, 2) @ item_value
    from_user = _softmax(scores, present, 1).mT @ user_value
    return from_item.to(dtype), from_user.to(dtype)


def history_fusion(
    values: Tensor,
    offsets: Tensor,
    query: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    ids: Tensor | None = None,
) -> Tensor:
    """Ragged pooling of histories; see :func:`fusionops.history_fusion`."""
    # Not len(), which gives torch.export a constant.
    rows, entries = offsets.shape[0] - 1, (values if ids is None else ids).shape[0]
    sums = torch.float64 if values.dtype == torch.float64 else torch.float32
    each = values.to(sums)  # before the gather, whose gradient sums in the dtype of its rows
    each = each if ids is None else each[ids]
    place = torch.arange(entries, device=values.device)
    owner = torch.searchsorted(offsets[1:].contiguous(), place, right=True)
    if query is not None:
        scores = (each * query.to(sums)[owner]).sum(1) * max(values.shape[1], 1) ** -0.5
        peak = scores.new_full((rows,), -torch.inf)
        peak = peak.scatter_reduce(0, owner, scores.detach(), "amax")
        factor = (scores - peak.masked_fill(peak == -torch.inf, 0)[owner]).exp()
        total = factor.new_zeros(rows).index_add(0, owner, factor)
        factor = factor / total.masked_fill(total == 0, 1)[owner]
    elif weights is not None:
        factor = weights.to(sums)
    else:
        factor = (1 / offsets.diff().to(sums))[owner]
    fused = each.new_zeros(rows, values.shape[1])
    return fused.index_add(0, owner, factor.unsqueeze(1) * each).to(values.dtype)


def mmr_rerank(
    scores: Tensor, vectors: Tensor, k: int, *, trade_off: float, mask: Tensor | None = None
) -> Tensor:
    """Maximal marginal relevance; see :func:`fusionops.mmr_rerank`."""
    sums = torch.float64 if vectors.dtype == torch.float64 else torch.float32
    scores = scores.to(sums)
    open_ = scores > -torch.inf  # False for NaN
    if mask is not None:
        open_ = open_ & mask
    unit = vectors.to(sums).masked_fill(~open_.unsqueeze(-1), 0)
    open_ = open_ & unit.isfinite().all(-1)
    unit = unit.masked_fill(~open_.unsqueeze(-1), 0)
    if unit.shape[-1] > 0:  # lengths may have squares out of the dtype's range
        size = unit.abs().amax(-1, keepdim=True)
        unit = unit / size.masked_fill(size == 0, 1)
    unit = unit * inverse_norm(unit, 0.0).unsqueeze(-1)
    relevance = trade_off * scores if trade_off > 0 else torch.zeros_like(scores)
    closest = torch.zeros_like(scores)  # to nothing chosen yet
    chosen = []
    for place in range(min(k, scores.shape[1])):
        gain = (relevance - (1 - trade_off) * closest).masked_fill(~open_, -torch.inf)
        best = gain.argmax(1, keepdim=True)  # the first of equals
        found = open_.gather(1, best)
        chosen.append(best.masked_fill(~found, -1))
        open_ = open_.scatter(1, best, False)
        to_best = torch.einsum(
            "ucd,ud->uc", unit, unit[torch.arange(len(unit), device=unit.device), best[:, 0]]
        )
        closest = to_best if place == 0 else torch.maximum(closest, to_best)
    places = torch.cat([*chosen, scores.new_zeros((len(scores), 0), dtype=torch.int64)], 1)
    return torch.nn.functional.pad(places, (0, k - places.shape[1]), value=-1)
