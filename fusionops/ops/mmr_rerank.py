"""Maximal marginal relevance: a list that is good, and not twenty times the same."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionops import backend, reference
from fusionops.ops import _checks
from fusionops.ops._dtypes import without_autocast
from fusionops.ops._library import fold_vmap, operator, register

_op = operator("mmr_rerank")


def mmr_rerank(
    scores: Tensor,
    vectors: Tensor,
    k: int,
    *,
    trade_off: float = 0.5,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Choose k candidates of each user, one after the other, by score and by difference.

    Each choice has the largest ``trade_off * score - (1 - trade_off) * s``, with s the largest
    cosine to those chosen before, and 0 at the first choice.

    Parameters
    ----------
    scores : Tensor
        ``[U, C]`` of any floating dtype. NaN and -inf are never chosen.
    vectors : Tensor
        ``[U, C, D]``, the candidates' vectors, of any strides. float64, float32, bfloat16 or
        float16. A vector of zeros has cosine 0; one with a NaN or an Inf is never chosen.
    k : int
        How many to choose, at least 1. More than there are candidates pads.
    trade_off : float
        In ``[0, 1]``: 1 is the order of the scores alone, 0 looks at them only for NaN and -inf.
    mask : Tensor, optional
        Bool, ``[U, C]`` or ``[C]``: True where a candidate may be chosen. What stands in the masked
        places is never read, NaN included.

    Returns
    -------
    Tensor
        ``[U, k]``, int64: places in ``[0, C)`` in the order of choice, equals by ascending place,
        and -1 where nothing is left. Not differentiable.

    Raises
    ------
    TypeError
        An argument that is not a tensor of a dtype listed above, or not a number.
    ValueError
        Shapes or devices that do not belong together, or a number out of range.

    Notes
    -----
    .. math::
        j_n = \underset{j \notin \{j_1, \dots, j_{n-1}\}}{\text{arg max}} \; \left( \lambda s_j
        - (1 - \lambda) \max_{m < n} \cos (x_j, x_{j_m}) \right)

    for each user, with :math:`s` in `scores`, :math:`x` in `vectors`, and :math:`\lambda` the
    `trade_off`.

    Carbonell and Goldstein (1998), "The use of MMR, diversity-based reranking for reordering
    documents and producing summaries". ``O(k C D)`` for a user at most, instead of the ``O(C^2 D)``
    of the matrix of cosines: candidates that what is known of them rules out are not compared with
    every choice. The result is that of the full loop, the same for any number of threads.

    Examples
    --------
    >>> import torch, fusionops
    >>> scores = torch.tensor([[3.0, 2.9, 2.0]])
    >>> vectors = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]])
    >>> fusionops.mmr_rerank(scores, vectors, 2)
    tensor([[0, 2]])
    """
    _checks.floating("scores", scores)
    _checks.floating("vectors", vectors)
    k = _checks.count("k", k)
    trade_off = _checks.number("trade_off", trade_off, 0.0)
    if trade_off > 1:
        raise ValueError(f"trade_off: expected a number in [0, 1], got {trade_off}")
    if vectors.dim() != 3:
        raise ValueError(f"vectors: expected 3 dimensions, got {_checks.describe(vectors)}")
    _checks.same_device("scores", scores, "vectors", vectors)
    if scores.shape != vectors.shape[:2]:
        raise ValueError(
            f"scores: expected shape {list(vectors.shape[:2])}, got {_checks.describe(scores)}"
        )
    _checks.list_length("k", k, scores.shape[0])
    mask = _checks.presence("mask", mask, "vectors", vectors)
    scores, vectors = scores.detach(), vectors.detach()
    if backend.serving("mmr_rerank", vectors) == "kernels":
        places: Tensor = _op(scores, vectors, k, trade_off, mask)
        return places
    # The reference holds no more than a copy of the vectors: it serves every other device too.
    with without_autocast(vectors.device):
        return reference.mmr_rerank(scores, vectors, k, trade_off=trade_off, mask=mask)


def _fake(scores: Tensor, vectors: Tensor, k: int, *rest: object) -> Tensor:
    return scores.new_empty((scores.shape[0], k), dtype=torch.int64)


register("mmr_rerank", _fake, None, fold_vmap(_op))
