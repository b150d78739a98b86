"""EASE carried to cold items: a user scores them by the mean over the warm items nearest to them.

A mean of columns of the weights and the mean of the scores that they give are the same, so what is
kept beside the weights is who is near whom, sparse.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from fusionops.data.encoded import Encoded
from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.evaluation.baselines.base import Baseline
from fusionops.evaluation.baselines.ease import ease_weights
from fusionops.evaluation.ranking import Scores, top_k

Rows: TypeAlias = "sparse.csr_array | npt.NDArray[np.float32]"


class _Carried(Baseline):
    """EASE over the warm items, and what each cold item is near in one or more respects.

    Parameters
    ----------
    penalty : float
        The ridge of EASE.
    neighbours : int
        How many warm items a cold one is the mean of, weighted by the cosine.
    """

    def __init__(self, penalty: float = 300.0, neighbours: int = 20) -> None:
        self.penalty = penalty
        self.neighbours = neighbours

    def _learn(self, interactions: Interactions, items: Items | None) -> None:
        respects = self._respects(interactions, items)
        self._weights = ease_weights(self._history, self.penalty)
        has_rows = np.bincount(self._history.indices, minlength=self._history.shape[1]) > 0
        warm, self._cold = np.flatnonzero(has_rows), np.flatnonzero(~has_rows)
        self._near = [nearest(rows, warm, self._cold, self.neighbours) for rows in respects]

    @abstractmethod
    def _respects(self, interactions: Interactions, items: Items | None) -> list[Rows]:
        """Unit rows of the catalogue, one matrix for each respect; ValueError if there are none."""

    def _carried(self, users: Codes, near: sparse.csr_array) -> Scores:
        """Scores of the whole catalogue in one respect."""
        scores: Scores = np.asarray(self._history[users] @ self._weights)
        scores[:, self._cold] = (near @ scores.T).T
        return scores


class CarriedEASE(_Carried):
    """EASE, with items that have no row scored by the warm items whose word TF-IDF is nearest.

    Parameters
    ----------
    penalty : float
        The ridge of EASE.
    neighbours : int
        How many warm items a cold one is the mean of, weighted by the cosine.
    """

    name = "CarriedEASE"

    def _respects(self, interactions: Interactions, items: Items | None) -> list[Rows]:
        if items is None or not items.text:
            raise ValueError("CarriedEASE needs items with a text column, got none")
        return [word_tfidf(items.take(interactions.items, missing="empty"))]

    def scores(self, users: Codes, items: Codes | None = None) -> Scores:
        """Sum the weights of the items of the history; see :meth:`Baseline.scores`."""
        scores = self._carried(users, self._near[0])
        return scores if items is None else scores[:, items]


class SummedCarriedEASE(_Carried):
    """CarriedEASE over word TF-IDF and over every modality of ``features``, summed.

    Each carries by its own neighbours; the scores of a user are standardised over the items asked
    for before they are added. Without text the modalities stand alone.

    Parameters
    ----------
    penalty : float
        The ridge of EASE.
    neighbours : int
        How many warm items a cold one is the mean of, in each respect, weighted by the cosine:
        of TF-IDF, or of the vectors of a modality less their mean over the warm items.
    """

    name = "SummedCarriedEASE"

    def _respects(self, interactions: Interactions, items: Items | None) -> list[Rows]:
        if not self._features:
            raise ValueError("SummedCarriedEASE needs features of at least one modality, got none")
        warm = np.unique(self._history.indices)
        respects: list[Rows] = [
            centred_rows(encoded.take(interactions.items, missing="empty"), warm)
            for encoded in self._features.values()
        ]
        if items is not None and items.text:
            respects.insert(0, word_tfidf(items.take(interactions.items, missing="empty")))
        return respects

    def scores(self, users: Codes, items: Codes | None = None) -> Scores:
        """Sum the standardised scores; see :meth:`Baseline.scores`."""
        total = np.zeros((len(users), self._weights.shape[1] if items is None else len(items)))
        for near in self._near:
            scores = self._carried(users, near).astype(np.float64)
            scores = scores if items is None else scores[:, items]
            scores -= scores.mean(axis=1, keepdims=True)
            total += scores / np.maximum(scores.std(axis=1, keepdims=True), 1e-12)
        return total.astype(np.float32)


def nearest(rows: Rows, warm: Codes, cold: Codes, neighbours: int) -> sparse.csr_array:
    """Return the shares of the nearest warm items in each cold one, ``[cold, P]``.

    Cosines that are not above 0 make no neighbours.
    """
    product = rows[cold] @ rows[warm].T
    cosine = product.toarray() if sparse.issparse(product) else product
    cosine[cosine <= 0.0] = -np.inf
    values, columns = top_k(cosine, neighbours, columns=warm)
    values = np.where(columns >= 0, values, 0.0)
    values /= np.maximum(values.sum(axis=1, keepdims=True), 1e-12)
    row = np.repeat(np.arange(len(cold)), neighbours)
    return sparse.csr_array(
        (values.ravel(), (row, np.maximum(columns, 0).ravel())), shape=(len(cold), rows.shape[0])
    )


def word_tfidf(items: Items) -> sparse.csr_array:
    """Return the word TF-IDF of all text columns together, ``[P, words]``, in unit rows."""
    texts = [" ".join(filter(None, row)) for row in zip(*items.text.values(), strict=True)]
    return sparse.csr_array(TfidfVectorizer(dtype=np.float32).fit_transform(texts))


def centred_rows(encoded: Encoded, warm: Codes) -> npt.NDArray[np.float32]:
    """Return the vectors less their mean over warm items, ``[P, width]``, in unit rows.

    Rows of what is missing are zeros.
    """
    known = warm[encoded.present[warm]]
    mean = encoded.vectors[known].mean(axis=0) if len(known) else np.float32(0)
    rows = np.where(encoded.present[:, None], encoded.vectors - mean, 0)
    unit: npt.NDArray[np.float32] = rows / np.maximum(
        np.linalg.norm(rows, axis=1, keepdims=True), 1e-12
    )
    return unit.astype(np.float32, copy=False)
