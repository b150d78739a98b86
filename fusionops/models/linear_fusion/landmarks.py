"""The content kernel of a large catalogue through some of its items (Nystroem).

``K ~ K_pl K_ll^-1 K_lp``, so that neither fitting nor adding items needs items by items.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusionops.data.ids import Codes
from fusionops.models.linear_fusion.content import Content, ContentFeatures

Floats = npt.NDArray[np.float32]

_COUNT = 1024


class Landmarks:
    """Items in terms of a fixed random choice of items that have content.

    Parameters
    ----------
    content : Content
    features : ContentFeatures
        Of the ``P`` items.
    count : int
        How many landmarks, at most.

    Attributes
    ----------
    codes : numpy.ndarray
        ``int64 [l]``, the rows that are landmarks.
    to_items : torch.Tensor
        ``K_pl``, ``float32 [P, l]``.
    inner : torch.Tensor
        ``K_ll``, ``float64 [l, l]``, made positive definite.
    """

    def __init__(self, content: Content, features: ContentFeatures, count: int = _COUNT) -> None:
        able = np.flatnonzero(features.present)
        self.codes: Codes = np.sort(np.random.default_rng(0).permutation(able)[:count])
        basis = features[self.codes]
        self.to_items: Tensor = torch.from_numpy(content.kernel(features, basis))
        # The sharpened kernel may be slightly indefinite: its nearest positive part, with a floor.
        values, vectors = torch.linalg.eigh(self.to_items[self.codes].double())
        values = values.clamp_min(1e-4 * float(values[-1]))
        self.inner: Tensor = (vectors * values) @ vectors.mT

    def apply_kernel(self, block: Tensor) -> Tensor:
        """``K @ block`` for ``block`` of shape ``[P, width]``."""
        at_landmarks = (self.to_items.mT @ block).double()
        solved: Tensor = torch.linalg.solve(self.inner, at_landmarks)
        return self.to_items @ solved.float()
