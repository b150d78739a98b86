"""What the truth allows: rankings by the true factors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge

from fusionops.data import Encoded, Interactions
from fusionops.data.ids import Codes
from fusionops.data.synthetic import Synthetic

Values = npt.NDArray[np.float64]

_STEPS = 300
_RATE = 0.05
_READOUT_PENALTY = 30.0


def factors(shop: Synthetic, *, only_present: bool = False) -> Values:
    """The factors of all modalities, ``[P, 3, factors]``, zeros for contents that are missing."""
    found = np.stack([shop.truth.item[name] for name in shop.modalities], axis=1)
    if only_present:
        found *= np.stack([shop.present[name] for name in shop.modalities], axis=1)[..., None]
    return found


def read_factors(shop: Synthetic, features: Mapping[str, Encoded], train: Interactions) -> Values:
    """The factors as they can be read out of features, ``[P, 3, factors]``.

    By ridge regressions on the true factors of the items with history: what a model would make of
    the contents that learned from the truth. Zeros, the average, where a content is missing.
    """
    known = np.bincount(train.item, minlength=len(train.items)) > 0
    found = np.zeros_like(factors(shop))
    for position, name in enumerate(shop.modalities):
        one, truth = features[name], shop.truth.item[name]
        fitted = known & one.present
        readout = Ridge(_READOUT_PENALTY).fit(one.vectors[fitted], truth[fitted])
        found[one.present, position] = readout.predict(one.vectors[one.present])
    return found


def tastes(shop: Synthetic) -> Values:
    """The true tastes, ``[U, 3, factors]``, on the scale of the affinity."""
    return shop.truth.sharpness * np.stack(
        [shop.truth.user[name] for name in shop.modalities], axis=1
    )


def estimated_tastes(train: Interactions, factors: Values, penalty: float) -> Values:
    """Tastes of the highest likelihood given the factors: the best that a history can say of them.

    Multinomial logit of the purchases over the items with history, less ``penalty`` times the sum
    over modalities of the length of the taste (a group lasso: a user has one main modality).
    """
    bought = torch.from_numpy(train.matrix().toarray())
    fitted = bought.any(dim=0)
    item = torch.from_numpy(factors.reshape(len(factors), -1)).float()[fitted]
    taste = torch.full((len(bought), item.shape[1]), 0.01, requires_grad=True)
    optimizer = torch.optim.Adam([taste], lr=_RATE)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        likelihood = (bought[:, fitted] * torch.log_softmax(taste @ item.T, dim=1)).sum()
        length = taste.view(len(taste), *factors.shape[1:]).norm(dim=2).sum()
        (penalty * length - likelihood).backward()
        optimizer.step()
    return taste.detach().numpy().astype(np.float64).reshape(-1, *factors.shape[1:])


class Known:
    """A ranking by tastes and factors that are given."""

    def __init__(self, train: Interactions, tastes: Values, factors: Values) -> None:
        self._seen = train.matrix().toarray() > 0
        self._scores = np.einsum("umf,pmf->up", tastes, factors)

    def rank(
        self, users: Codes, k: int, *, candidates: Codes | None = None
    ) -> tuple[Values, Codes]:
        """As a recommender's, what the user has left out."""
        allowed = np.zeros(self._seen.shape[1], bool)
        allowed[slice(None) if candidates is None else candidates] = True
        scores = np.where(self._seen[users] | ~allowed, -np.inf, self._scores[users])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, axis=1), best
