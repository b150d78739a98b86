"""From what a caller asks for to tensors, and the second stage over lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from fusionops.data.ids import Codes
from fusionops.models.fusion_recommender.histories import RaggedHistories
from fusionops.models.fusion_recommender.model import FusionNetwork
from fusionops.models.interface.histories import Histories
from fusionops.models.interface.serving import Floats


def ragged(histories: Histories, pairs: sparse.csr_array, device: torch.device) -> RaggedHistories:
    """Histories of a batch of users, each item once, with their weights as of the question.

    Parameters
    ----------
    histories : Histories
    pairs : scipy.sparse.csr_array
        ``[B, P]``, the weighted pairs of these histories: their recency is taken from it.
    """
    n_items = pairs.shape[1]
    plain = histories.pairs(n_items)
    recency = np.divide(pairs.data, plain.data, where=plain.data > 0, out=np.zeros_like(pairs.data))
    distinct = histories.counted().distinct(n_items)
    user = np.repeat(np.arange(len(distinct)), np.diff(distinct.offsets))
    pair_user = np.repeat(np.arange(len(distinct)), np.diff(plain.indptr))
    place = np.searchsorted(pair_user * n_items + plain.indices, user * n_items + distinct.items)
    events = None if distinct.events is None else torch.from_numpy(distinct.events).to(device)
    return RaggedHistories(
        torch.from_numpy(distinct.items).to(device),
        torch.from_numpy(distinct.offsets).to(device),
        torch.from_numpy(distinct.weights * recency[place]).to(device),
        events,
    )


def with_kinds(histories: Histories, fitted: Histories) -> Histories:
    """Histories whose kinds of event are known.

    What a caller gives without them counts as the kind that weighs most in training.
    """
    if fitted.events is None or histories.events is not None:
        return histories
    main = int(np.bincount(fitted.events, fitted.weights).argmax())
    return replace(histories, events=np.full(len(histories.items), main, np.int64))


def second_stage(
    network: FusionNetwork,
    item: Tensor,
    profiles: Floats,
    histories: RaggedHistories,
    items: Codes,
) -> tuple[Floats, Codes]:
    """The lists of a batch of users ranked again.

    Parameters
    ----------
    item : Tensor
        ``[P, D]``, the vectors that retrieval scores with.
    profiles : numpy.ndarray
        ``float32 [B, D]``.
    items : numpy.ndarray
        ``int64 [B, C]``, by score descending, -1 for none.

    Returns
    -------
    scores, items : numpy.ndarray
        ``[B, C]``; equal scores keep the order of retrieval.
    """
    candidates = torch.from_numpy(items).to(item.device)
    user = torch.from_numpy(profiles).to(item.device)
    scores = network.rerank(user, item, histories, candidates).float()
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores.cpu().numpy(), candidates.gather(1, order).cpu().numpy()
