"""Items without history: their vectors from those of the items that have one, by content.

Kernel ridge regression with the mean as intercept, ``W = (K_ww + r I)^-1 K_wc`` and
``E_c = W' E_w + (1 - W' 1) mean(E_w)``, and beside it the mean of the nearest content neighbours.
The same regression says how popular such an item may become, for users without history.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from fusionops.data.ids import Codes
from fusionops.models.linear_fusion.content import Content, ContentFeatures
from fusionops.models.linear_fusion.landmarks import Landmarks
from fusionops.models.linear_fusion.parameters import Parameters

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_RIDGE = 2.0  # in units of the kernel's mean diagonal
_CONTENT, _FEATURES = "content.", "cold.features."  # before the names of their arrays
_KERNEL_ENTRIES = 1 << 25  # 128 MB of float32 kernel at a time


class ColdItems:
    """The map from content to item vectors.

    Parameters
    ----------
    content : Content
    features : ContentFeatures
        Of the ``P_w`` items with history.
    basis : numpy.ndarray
        ``int64 [b]``, the rows of ``features`` that the regression is expressed in.
    coefficients : numpy.ndarray
        ``float32 [b, rank + 2]``: of the vectors, of the constant 1, of the log of popularity.
    mean : numpy.ndarray
        ``float32 [rank + 1]``: mean vector and mean log of popularity of the items with history.
    """

    def __init__(
        self,
        content: Content,
        features: ContentFeatures,
        basis: Codes,
        coefficients: Floats,
        mean: Floats,
    ) -> None:
        self.content = content
        self.features, self._basis = features, basis
        self._coefficients, self._mean = coefficients, mean

    @classmethod
    def fit(
        cls,
        content: Content,
        features: ContentFeatures,
        kernel: Floats | Landmarks,
        vectors: Floats,
        popularity: Codes,
    ) -> ColdItems:
        """Solve the regression.

        Parameters
        ----------
        kernel : numpy.ndarray or Landmarks
            ``K_ww [P_w, P_w]``, overwritten, or the landmarks that stand for it.
        vectors : numpy.ndarray
            ``E_w``, ``float32 [P_w, rank]``.
        popularity : numpy.ndarray
            Number of users of each item, ``int64 [P_w]``.
        """
        log = np.log1p(popularity).astype(np.float32)
        ones = np.ones_like(log)
        targets = torch.from_numpy(np.column_stack([vectors, ones, log]))
        if isinstance(kernel, Landmarks):
            basis = kernel.codes
            to_items = kernel.to_items
            # Subset of regressors: the same regression in the span of the landmarks.
            system = (to_items.mT @ to_items).double() + _RIDGE * kernel.inner
            solved = torch.linalg.solve(system, (to_items.mT @ targets).double()).float()
        else:
            basis = np.arange(len(vectors))
            system = torch.from_numpy(kernel)
            system.diagonal().add_(_RIDGE)
            solved = _solve(system, targets)
        mean = np.append(vectors.mean(axis=0, dtype=np.float64), log.mean(dtype=np.float64))
        # Row-major as it comes back from a file, so that products with it have the same bits.
        coefficients = np.ascontiguousarray(solved.numpy())
        return cls(content, features, basis, coefficients, mean.astype(np.float32))

    def vectors(
        self, features: ContentFeatures, warm_vectors: Floats, parameters: Parameters
    ) -> tuple[Floats, Floats]:
        """Vectors and expected log-popularity of items from their features.

        An item without content gets the means.

        Parameters
        ----------
        features : ContentFeatures
            Of the ``n`` items asked for.
        warm_vectors : numpy.ndarray
            ``E_w``, ``float32 [P_w, rank]``.

        Returns
        -------
        vectors : numpy.ndarray
            ``float32 [n, rank]``, ``parameters.cold_factor`` in them.
        log_popularity : numpy.ndarray
            ``float32 [n]``.
        """
        step = max(1, _KERNEL_ENTRIES // max(1, len(self.features)))
        vectors = np.empty((len(features), warm_vectors.shape[1]), np.float32)
        log_popularity = np.empty(len(features), np.float32)
        for start in range(0, len(features), step):
            rows = slice(start, start + step)
            kernel = self.content.kernel(features[rows], self.features)
            fitted = kernel[:, self._basis] @ self._coefficients
            spread = np.delete(fitted, -2, axis=1) + (1 - fitted[:, -2:-1]) * self._mean
            near = self._neighbour_mean(kernel, warm_vectors, parameters.neighbours)
            weight = np.float32(parameters.neighbour_weight)
            blend = (spread[:, :-1] + weight * near) / (1 + weight)
            vectors[rows] = np.float32(parameters.cold_factor) * blend
            log_popularity[rows] = spread[:, -1]
        return vectors, log_popularity

    def split(
        self,
        features: ContentFeatures,
        vectors: Floats,
        warm: Codes,
        user: Doubles,
        parameters: Parameters,
    ) -> tuple[dict[str, Doubles], Doubles]:
        """The scores of items from their features, as a sum over what is known of them.

        :meth:`vectors` is linear in the kernel, and the kernel a sum of terms.

        Parameters
        ----------
        features : ContentFeatures
            Of the ``n`` items asked for.
        vectors, warm : numpy.ndarray
            ``float32 [P, rank]``, and which rows of it are ``E_w``, ``int64 [P_w]``.
        user : numpy.ndarray
            ``float64 [rank]``, a profile.

        Returns
        -------
        terms : dict of str to numpy.ndarray
            ``float64 [n]`` each, what a term of the content adds.
        average : numpy.ndarray
            ``float64 [n]``, what the average item gets, where content says nothing.
        """
        mean = float(user @ self._mean[:-1])
        of_basis = self._coefficients[:, :-2] @ user - self._coefficients[:, -2] * mean
        kernel, parts = self.content.split(features, self.features)
        chosen, weights = self._neighbours(kernel, parameters.neighbours)
        # A share is the kernel times this, whichever term it comes from.
        known = np.take_along_axis(kernel, chosen, axis=1)
        of_neighbours = np.divide(weights, known, out=np.zeros_like(weights), where=weights > 0) * (
            vectors[warm[chosen]] @ user
        )
        near = parameters.neighbour_weight
        scale = parameters.cold_factor / (1 + near)
        terms = {}
        for name, part in parts.items():
            borrowed = np.take_along_axis(part, chosen, axis=1) * of_neighbours
            terms[name] = scale * (part[:, self._basis] @ of_basis + near * borrowed.sum(axis=1))
        alone = weights.sum(axis=1) == 0
        return terms, scale * mean * (1 + near * alone)

    def _neighbours(self, kernel: Floats, neighbours: int) -> tuple[Codes, Floats]:
        """The nearest items with history and their shares, ``[n, count]``, 0 for all if unlike."""
        count = min(neighbours, kernel.shape[1])
        chosen = np.empty((len(kernel), count), np.int64)
        for place, row in enumerate(kernel):
            chosen[place] = _largest(row, count)
        # An item unlike this one is no neighbour, however few are left.
        weights = np.maximum(np.take_along_axis(kernel, chosen, axis=1), 0)
        total = weights.sum(axis=1, keepdims=True)
        weights /= np.where(total > 0, total, 1)
        return chosen, weights

    def _neighbour_mean(self, kernel: Floats, warm_vectors: Floats, neighbours: int) -> Floats:
        """The kernel-weighted mean vector of the nearest items with history, ``[n, rank]``."""
        chosen, weights = self._neighbours(kernel, neighbours)
        indptr = np.arange(len(kernel) + 1) * chosen.shape[1]
        carry = sparse.csr_array(
            (weights.ravel(), chosen.ravel(), indptr), shape=(len(kernel), kernel.shape[1])
        )
        known = weights.sum(axis=1, keepdims=True) > 0
        return np.asarray(np.where(known, carry @ warm_vectors, self._mean[:-1]))

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What JSON holds and what safetensors hold, for :meth:`from_state`."""
        content, arrays = self.content.state()
        arrays = {f"{_CONTENT}{name}": array for name, array in arrays.items()}
        for name, array in self.features.to_arrays().items():
            arrays[f"{_FEATURES}{name}"] = array
        arrays |= {
            "cold.basis": self._basis,
            "cold.coefficients": self._coefficients,
            "cold.mean": self._mean,
        }
        return content, arrays

    @classmethod
    def from_state(cls, state: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> ColdItems:
        """The inverse of :meth:`state`."""
        return cls(
            Content.from_state(state, under(_CONTENT, arrays)),
            ContentFeatures.from_arrays(under(_FEATURES, arrays)),
            arrays["cold.basis"],
            arrays["cold.coefficients"],
            arrays["cold.mean"],
        )


def _largest(row: Floats, count: int) -> Codes:
    """The places of the largest entries, in order; of equal ones the first, whatever NumPy does."""
    able = np.arange(len(row))
    if 0 < count < len(row):
        able = np.flatnonzero(row >= np.partition(row, len(row) - count)[len(row) - count])
    return able[np.argsort(-row[able], kind="stable")[:count]]


def under(prefix: str, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The arrays whose names begin so, without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _solve(system: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Solve by Cholesky, or by LU where the sharpened kernel is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(system)
    solved: torch.Tensor = (
        torch.linalg.solve(system, targets)
        if int(failed)
        else torch.cholesky_solve(targets, factor)
    )
    return solved
