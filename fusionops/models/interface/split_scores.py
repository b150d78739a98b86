"""What a model tells of its own reasoning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusionops.models.interface.serving import Floats, Mask

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Contributions:
    """Scores of n items as sums.

    Attributes
    ----------
    history : numpy.ndarray
        ``float64 [H, n]``, of each item of the history; the columns add up to the scores.
    modalities : dict of str to numpy.ndarray
        ``float64 [n]`` of each, which with ``baseline`` add up to the scores, too.
    baseline : numpy.ndarray
        ``float64 [n]``.
    """

    history: Doubles
    modalities: dict[str, Doubles]
    baseline: Doubles


@dataclass(frozen=True)
class WithoutModality:
    """A user and n items as if a modality of them, and of the user's history, were missing.

    Attributes
    ----------
    name : str
    profile, known : numpy.ndarray
        ``float32 [1, D]`` and ``bool [1]``.
    vectors : numpy.ndarray
        ``float32 [n, D]``.
    """

    name: str
    profile: Floats
    known: Mask
    vectors: Floats
