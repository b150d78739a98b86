"""A normalisation as the kernels know it: a scale per item, a scale per user, or a user map.

Vectors stay as they were given, so where it is a scale, scores have the bits of
:func:`fusionops.fusion_topk`; see :mod:`fusionops.ops.normalization` for the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusionops import _native, checks


@dataclass(frozen=True)
class Norm:
    """The ``norm`` keywords."""

    normalization: str = "diagonal"
    power: float = 0.5
    ridge: float = 0.0
    eps: float = 0.0

    @classmethod
    def checked(cls, normalization: str, power: float, ridge: float, eps: float) -> Norm:
        """With types and ranges checked."""
        kinds = (int, float, np.integer, np.floating)
        checks.norm(normalization, power, ridge, eps, kinds)
        return cls(normalization, float(power), float(ridge), float(eps))

    @property
    def scales_items(self) -> bool:
        """Whether there is a scale per item."""
        return self.normalization in ("diagonal", "cosine")

    @property
    def maps_users(self) -> bool:
        """Whether there is a map of the user side, made from the Gram matrix."""
        return self.normalization == "matrix"

    def item_scale(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """``[P]``, for normalisations that have one."""
        return _native.inverse_norm(vectors, self.eps)

    def user_scale(self, user: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """``[U]``, or none."""
        if self.normalization == "cosine":
            return _native.inverse_norm(user, self.eps)
        return None

    def user_map(self, gram: npt.NDArray[np.float64], rows: int) -> npt.NDArray[np.float32]:
        """``(G + ridge I)^(-power)`` on the row space of ``G``, ``[D, D]``.

        Computed in float64; what counts as zero is decided by float32, which the `rows` vectors
        are in.
        """
        if not np.isfinite(gram).all():
            raise ValueError(
                "vectors: expected finite values for normalization='matrix', got NaN or infinity"
            )
        if not gram.size:
            return np.zeros(gram.shape, dtype=np.float32)
        values, vectors = np.linalg.eigh(gram)
        least = max(rows, len(gram)) * np.finfo(np.float32).eps * max(values[-1], 0.0)
        kept = values > least
        weights = np.where(kept, np.where(kept, values + self.ridge, 1.0) ** -self.power, 0.0)
        return _native.fusion_matrix(vectors * weights, vectors).astype(np.float32)


def gram(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """``vectors.T @ vectors`` in float64, ``[D, D]``."""
    doubles = vectors.astype(np.float64)
    return _native.fusion_contract(doubles, doubles)
