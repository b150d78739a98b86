"""Vectors of a pretrained encoder as a term of the kernel: the centred cosine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusionops.data.encoded import Encoded

Floats = npt.NDArray[np.float32]

WEIGHT = 0.3
"""Of each modality, where the parameters do not say otherwise."""


@dataclass(frozen=True)
class Modality:
    """One modality.

    Attributes
    ----------
    name : str
    weight : float
        Of its cosine in the kernel.
    mean : numpy.ndarray
        ``float32 [width]``, over the fitted items that have it. Encoders place all things of one
        shop in a narrow cone; without the mean their cosines say what differs.
    """

    name: str
    weight: float
    mean: Floats

    @classmethod
    def fit(cls, name: str, weight: float, encoded: Encoded) -> Modality | None:
        """Learn the mean; None where no item has the modality."""
        if not encoded.present.any():
            return None
        mean = encoded.vectors[encoded.present].mean(axis=0, dtype=np.float64)
        return cls(name, weight, mean.astype(np.float32))

    def transform(self, encoded: Encoded) -> Floats:
        """``float32 [n, width]``, rows of length sqrt(weight), zeros where it is missing."""
        rows = encoded.vectors - self.mean
        rows[~encoded.present] = 0
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        scaled: Floats = rows * (np.float32(self.weight**0.5) / np.maximum(length, 1e-12))
        return scaled
