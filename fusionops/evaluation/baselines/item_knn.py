"""Item-based nearest neighbours: ``scores = x S``, S the k largest cosines of each column."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.evaluation.baselines.base import Baseline
from fusionops.evaluation.ranking import Scores, top_k


class ItemKNN(Baseline):
    """Item-kNN with cosine similarity (Sarwar et al. 2001; Deshpande and Karypis 2004).

    Parameters
    ----------
    neighbours : int
        How many items of the history may vote for an item: its nearest.
    """

    name = "ItemKNN"

    def __init__(self, neighbours: int = 200) -> None:
        self.neighbours = neighbours

    def _learn(self, interactions: Interactions, items: Items | None) -> None:
        together = (self._history.T @ self._history).toarray().astype(np.float32)
        length = np.sqrt(np.maximum(together.diagonal(), 1.0))
        cosine = together / length[:, None] / length[None, :]
        np.fill_diagonal(cosine, 0.0)
        cosine[cosine == 0.0] = -np.inf  # no user in common: no neighbour
        values, near = top_k(cosine, self.neighbours)
        item = np.repeat(np.arange(len(cosine)), self.neighbours)
        kept = near.ravel() >= 0
        self._similar = sparse.csc_array(
            (values.ravel()[kept], (near.ravel()[kept], item[kept])), shape=cosine.shape
        )

    def scores(self, users: Codes, items: Codes | None = None) -> Scores:
        """Sum the similarities of the items of the history; see :meth:`Baseline.scores`."""
        similar = self._similar if items is None else self._similar[:, items]
        return np.asarray((self._history[users] @ similar).toarray())
