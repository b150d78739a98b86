"""EASE carried to cold items: their columns are means over the warm items nearest in text."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.evaluation.baselines.base import Baseline
from fusionops.evaluation.baselines.ease import ease_weights
from fusionops.evaluation.ranking import Scores, top_k


class CarriedEASE(Baseline):
    """EASE, with items that have no row scored by the warm items whose text is nearest.

    Parameters
    ----------
    penalty : float
        The ridge of EASE.
    neighbours : int
        How many warm items a cold one is the mean of, weighted by the cosine of their word TF-IDF.
    """

    name = "CarriedEASE"

    def __init__(self, penalty: float = 300.0, neighbours: int = 20) -> None:
        self.penalty = penalty
        self.neighbours = neighbours

    def _learn(self, interactions: Interactions, items: Items | None) -> None:
        if items is None or not items.text:
            raise ValueError("CarriedEASE needs items with a text column, got none")
        weights = ease_weights(self._history, self.penalty)
        has_rows = np.bincount(self._history.indices, minlength=self._history.shape[1]) > 0
        warm, cold = np.flatnonzero(has_rows), np.flatnonzero(~has_rows)
        content = word_tfidf(items.take(interactions.items, missing="empty"))
        cosine = (content[cold] @ content[warm].T).toarray()
        cosine[cosine <= 0.0] = -np.inf
        values, columns = top_k(cosine, self.neighbours, columns=warm)
        values = np.where(columns >= 0, values, 0.0)
        values /= np.maximum(values.sum(axis=1, keepdims=True), 1e-12)
        rows = np.repeat(np.arange(len(cold)), self.neighbours)
        carry = sparse.csr_array(
            (values.ravel(), (rows, np.maximum(columns, 0).ravel())),
            shape=(len(cold), weights.shape[0]),
        )
        weights[:, cold] = (carry @ weights.T).T
        self._weights = weights

    def scores(self, users: Codes, items: Codes | None = None) -> Scores:
        """Sum the weights of the items of the history; see :meth:`Baseline.scores`."""
        weights = self._weights if items is None else self._weights[:, items]
        return np.asarray(self._history[users] @ weights)


def word_tfidf(items: Items) -> sparse.csr_array:
    """Return the word TF-IDF of all text columns together, ``[P, words]``, in unit rows."""
    texts = [" ".join(filter(None, row)) for row in zip(*items.text.values(), strict=True)]
    return sparse.csr_array(TfidfVectorizer(dtype=np.float32).fit_transform(texts))
