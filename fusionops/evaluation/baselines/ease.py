"""EASE: ``scores = x B``, ``B = I - P / diag(P)``, ``P = (X'X + lambda I)^-1``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.evaluation.baselines.base import Baseline
from fusionops.evaluation.ranking import Scores


def ease_weights(history: sparse.csr_array, penalty: float) -> npt.NDArray[np.float32]:
    """Return the item-to-item weights of EASE, ``[P, P]``, with a zero diagonal.

    Solved in float64 over the items that have rows; the others have zeros.
    """
    n = history.shape[1]
    warm = np.flatnonzero(np.bincount(history.indices, minlength=n))
    gram = (history.T @ history).toarray()[np.ix_(warm, warm)].astype(np.float64)
    gram[np.diag_indices_from(gram)] += penalty
    inverse = inverse_of_positive_definite(gram)
    weights = np.zeros((n, n), dtype=np.float32)
    inner = -inverse / inverse.diagonal()
    np.fill_diagonal(inner, 0.0)
    weights[np.ix_(warm, warm)] = inner
    return weights


def inverse_of_positive_definite(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the inverse by Cholesky, half the work of the general one; overwrites ``matrix``."""
    factor, info = linalg.lapack.dpotrf(matrix.T, lower=False, overwrite_a=True)
    if info == 0:
        factor, info = linalg.lapack.dpotri(factor, lower=False, overwrite_c=True)
    if info != 0:
        raise ValueError("the matrix must be positive definite; raise the penalty")
    return np.asarray(np.triu(factor) + np.triu(factor, 1).T)


class EASE(Baseline):
    """Embarrassingly shallow autoencoder (Steck 2019).

    Parameters
    ----------
    penalty : float
        The ridge lambda, above 0.
    """

    name = "EASE"

    def __init__(self, penalty: float = 300.0) -> None:
        if penalty <= 0:
            raise ValueError(f"penalty must be above 0, got {penalty}")
        self.penalty = penalty

    def _learn(self, interactions: Interactions, items: Items | None) -> None:
        self._weights = ease_weights(self._history, self.penalty)
        self._has_rows = np.bincount(self._history.indices, minlength=self._history.shape[1]) > 0

    def scores(self, users: Codes, items: Codes | None = None) -> Scores:
        """Sum the weights of the items of the history; see :meth:`Baseline.scores`."""
        known = self._has_rows if items is None else self._has_rows[items]
        scores: Scores = self._history[users] @ (
            self._weights if items is None else self._weights[:, items]
        )
        scores[:, ~known] = -np.inf  # it has nothing to say about items without history
        return scores
