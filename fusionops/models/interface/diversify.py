"""Maximal marginal relevance (Carbonell and Goldstein 1998) over a pool of scored items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from fusionops import mmr_rerank
from fusionops.data.ids import Codes

Floats = npt.NDArray[np.float32]

_GATHERED_FLOATS = 1 << 25  # 128 MB of pool vectors at a time


def pool_size(k: int, n_items: int) -> int:
    """How many of the best items the list is chosen from, at least k; what is lacking is padded."""
    return max(k, min(max(5 * k, 50), n_items))


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
    if 0 in items.shape:
        return scores[:, :k], items[:, :k]
    step = max(1, _GATHERED_FLOATS // max(1, items.shape[1] * vectors.shape[1]))
    parts = []
    for start in range(0, len(scores), step):
        rows = slice(start, start + step)
        parts.append(_choose(scores[rows], items[rows], vectors, k, diversify))
    order = np.concatenate(parts)
    place = np.maximum(order, 0)
    return (
        np.where(order < 0, np.float32(-np.inf), np.take_along_axis(scores, place, 1)),
        np.where(order < 0, -1, np.take_along_axis(items, place, 1)),
    )


def _choose(
    scores: Floats, items: Codes, vectors: Floats, k: int, diversify: float
) -> npt.NDArray[np.int64]:
    """The places in the pool, ``[U, min(k, C)]``, and -1 where no item is left."""
    valid = items >= 0
    places = mmr_rerank(
        torch.from_numpy(_unit_interval(scores, valid)),
        torch.from_numpy(vectors[np.maximum(items, 0)]),
        min(k, items.shape[1]),
        trade_off=1 - diversify,
        mask=torch.from_numpy(valid),
    )
    return places.numpy()


def _unit_interval(scores: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """Scores scaled to [0, 1] over each pool, 0 where there is no item."""
    low = np.where(valid, scores, np.inf).min(axis=1, keepdims=True)
    high = np.where(valid, scores, -np.inf).max(axis=1, keepdims=True)
    span = np.where(high > low, high - low, 1)
    with np.errstate(invalid="ignore"):
        return np.where(valid, (scores - low) / span, 0).astype(np.float32)
