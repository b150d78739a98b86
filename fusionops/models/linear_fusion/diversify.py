"""Maximal marginal relevance (Carbonell and Goldstein 1998) over a pool of scored items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import Codes

Floats = npt.NDArray[np.float32]

_GATHERED_FLOATS = 1 << 25  # 128 MB of pool vectors at a time


def pool_size(k: int, n_items: int) -> int:
    """How many of the best items the list is chosen from."""
    return min(max(5 * k, 50), n_items)


def rerank(
    scores: Floats, items: Codes, vectors: Floats, k: int, diversify: float
) -> tuple[Floats, Codes]:
    """Choose k of each user's pool, one after the other.

    Each choice maximises ``(1 - diversify) s - diversify * max cosine to those chosen``, s the
    score scaled to [0, 1] over the pool. Ties go to the better score.

    Parameters
    ----------
    scores, items : numpy.ndarray
        ``float32`` and ``int64 [U, C]``, by score descending, padded with -inf and -1.
    vectors : numpy.ndarray
        Item vectors, ``float32 [P, rank]``.

    Returns
    -------
    scores, items : numpy.ndarray
        ``[U, k]`` in the order of choice; the scores are the given ones.
    """
    step = max(1, _GATHERED_FLOATS // max(1, items.shape[1] * vectors.shape[1]))
    parts = []
    for start in range(0, max(1, len(scores)), step):
        rows = slice(start, start + step)
        parts.append(_choose(scores[rows], items[rows], vectors, k, diversify))
    order = np.concatenate(parts)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(items, order, 1)


def _choose(
    scores: Floats, items: Codes, vectors: Floats, k: int, diversify: float
) -> npt.NDArray[np.int64]:
    """The places in the pool, ``[U, min(k, C)]``."""
    n_users, pool = items.shape
    valid = items >= 0
    gathered = vectors[np.maximum(items, 0)]
    length = np.sqrt(np.einsum("ucr,ucr->uc", gathered, gathered))
    gathered /= np.maximum(length, np.float32(1e-12))[:, :, None]
    relevance = _unit_interval(scores, valid)
    closest = np.full((n_users, pool), -np.inf, np.float32)
    row = np.arange(n_users)
    order = np.empty((n_users, min(k, pool)), np.int64)
    taken = np.zeros((n_users, pool), bool)
    for place in range(order.shape[1]):
        penalty = 0.0 if place == 0 else diversify * closest
        value = (1 - diversify) * relevance - penalty
        # Padding comes after every item, and a place is taken once.
        value = np.where(valid, value, np.finfo(np.float32).min)
        value[taken] = -np.inf
        order[:, place] = chosen = value.argmax(axis=1)
        taken[row, chosen] = True
        to_chosen = np.einsum("ucr,ur->uc", gathered, gathered[row, chosen])
        closest = np.maximum(closest, to_chosen)
    return order


def _unit_interval(scores: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """Scores scaled to [0, 1] over each pool, 0 where there is no item."""
    if scores.shape[1] == 0:
        return scores
    low = np.where(valid, scores, np.inf).min(axis=1, keepdims=True)
    high = np.where(valid, scores, -np.inf).max(axis=1, keepdims=True)
    span = np.where(high > low, high - low, 1)
    with np.errstate(invalid="ignore"):
        return np.where(valid, (scores - low) / span, 0).astype(np.float32)
