"""What of a score rests on what: behaviour, and each thing that items are compared by.

Items with history. ``S_PP`` is a sum: ``G = X_s' X_s + c K`` and ``K = sum of K_m`` over the terms
m of the content. The scores ``h (G + ridge I)^-power G`` are linear in the last G: what the items
of a history, normalised among each other, have to do with the item. So they split into one part
for each of its summands S_m. With the eigenvectors V of G, its eigenvalues L and ``E = V D``,
``D^2 = L (L + ridge)^-power``, the part of m in ``u E'`` is

    u A_m E',  A_m = D^-1 (L + ridge)^-power (V' S_m V) D^-1,

a ``rank x rank`` matrix, and the ``A_m`` add up to the identity. (The factors of the scores may be
exchanged, those of a part may not: with the summand beside the history in place of the item the
parts have the same sum, and say less of the item. On synthetic data, where the truth is known, this
order names the modality that a user goes by more often.)

Items without history have vectors that are linear in ``K = sum of K_m`` towards the others (see
``cold``), and so split at once; what they would get without any content is the average item's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fusionops.data.ids import Codes
from fusionops.models.linear_fusion.behaviour import scaled_histories
from fusionops.models.linear_fusion.landmarks import Landmarks
from fusionops.models.linear_fusion.parameters import Parameters
from fusionops.models.linear_fusion.state import State

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

BEHAVIOUR, AVERAGE = "behaviour", "average item"

_KERNEL_ENTRIES = 1 << 22  # 16 MB of float32 for each term at a time
_USERS_AT_A_TIME = 1 << 14


@dataclass(frozen=True)
class Attribution:
    """How the scores of a fitted model split.

    Attributes
    ----------
    state : State
    parameters : Parameters
    maps : dict of str to numpy.ndarray
        ``A_m``, ``float32 [rank, rank]``, of each term of the content. What they leave of the
        identity is behaviour's.
    """

    state: State
    parameters: Parameters
    maps: dict[str, Floats]

    @classmethod
    def of(cls, state: State, parameters: Parameters) -> Attribution:
        """Split the Gram matrix that a model was fitted on.

        Takes the products of the fit with the content kernel once more: a second for 3,000 items.
        """
        if state.cold is None:
            return cls(state, parameters, {})
        length = np.linalg.norm(state.vectors[state.warm], axis=0)
        basis: Floats = state.vectors[state.warm] / np.where(length > 0, length, np.float32(1))
        inner = _content_in(basis, state, parameters)
        spectrum = _behaviour_spectrum(basis, state, parameters)
        spectrum += np.sum([np.diag(part) for part in inner.values()], axis=0)
        # In units of the mean diagonal of X_s' X_s, which cancel.
        spectrum = np.maximum(spectrum, 0)
        normal = (spectrum + parameters.ridge) ** -parameters.power
        root = np.sqrt(spectrum * normal)
        inverse = np.divide(1, root, out=np.zeros_like(root), where=(root > 0) & (length > 0))
        return cls(
            state,
            parameters,
            {
                name: ((inverse * normal)[:, None] * part * inverse).astype(np.float32)
                for name, part in inner.items()
            },
        )

    def of_items(self, user: Doubles, items: Codes) -> dict[str, Doubles]:
        """What each modality adds to the scores of some items.

        Parameters
        ----------
        user : numpy.ndarray
            ``float64 [rank]``, a profile.
        items : numpy.ndarray
            ``int64 [n]``.

        Returns
        -------
        dict of str to numpy.ndarray
            ``float64 [n]`` each: their sum is the score.
        """
        cold = self.state.users_per_item[items] == 0
        found: dict[str, Doubles] = {}
        for chosen, split in ((~cold, self._with_history), (cold, self._without_history)):
            if not chosen.any():
                continue
            for name, values in split(user, items[chosen]).items():
                found.setdefault(name, np.zeros(len(items)))[chosen] += values
        return found

    def _with_history(self, user: Doubles, items: Codes) -> dict[str, Doubles]:
        vectors = self.state.vectors[items].astype(np.float64)
        rest = vectors @ user
        found = {BEHAVIOUR: rest}
        row = torch.from_numpy(user.astype(np.float32))
        for name, matrix in self.maps.items():
            share = vectors @ (row @ torch.from_numpy(matrix)).double().numpy()
            found[name] = found.get(name, 0) + share
            rest -= share
        return found

    def _without_history(self, user: Doubles, items: Codes) -> dict[str, Doubles]:
        state = self.state
        if state.cold is None or state.new is None:
            return {AVERAGE: state.vectors[items].astype(np.float64) @ user}
        place = np.cumsum(state.users_per_item == 0) - 1
        terms, average = state.cold.split(
            state.new[place[items]],
            state.vectors[state.warm],
            user.astype(np.float32),
            self.parameters,
        )
        found = {name: part.astype(np.float64) for name, part in terms.items()}
        return {**found, AVERAGE: found.get(AVERAGE, 0) + average.astype(np.float64)}


def _content_in(basis: Floats, state: State, parameters: Parameters) -> dict[str, Doubles]:
    """``V' c K_m V`` of each term m, ``[rank, rank]``."""
    assert state.cold is not None
    content, features = state.cold.content, state.cold.features
    landmarks = None
    if len(basis) > parameters.dense_items:
        landmarks = Landmarks(content, features)
    towards = features if landmarks is None else features[landmarks.codes]
    step = max(1, _KERNEL_ENTRIES // len(towards))
    found: dict[str, Doubles] = {}
    for start in range(0, len(basis), step):
        rows = slice(start, start + step)
        for name, part in content.terms(features[rows], towards).items():
            product = basis[rows].T @ (part @ basis) if landmarks is None else basis[rows].T @ part
            found[name] = found.get(name, 0) + product.astype(np.float64)
    if landmarks is not None:
        # K ~ T C T' with T = sum of T_m: each term has half of what it does on either side.
        through = np.sum(list(found.values()), axis=0) @ np.linalg.inv(landmarks.inner.numpy())
        found = {name: _symmetric(part @ through.T) for name, part in found.items()}
    return {name: parameters.content_weight * part for name, part in found.items()}


def _symmetric(matrix: Doubles) -> Doubles:
    return np.asarray((matrix + matrix.T) / 2)


def _behaviour_spectrum(basis: Floats, state: State, parameters: Parameters) -> Doubles:
    """The diagonal of ``V' X_s' X_s V``, ``[rank]``, in units of the mean diagonal of X_s' X_s."""
    pairs = state.histories.pairs(len(state.items))
    pairs.eliminate_zeros()
    scaled, _ = scaled_histories(pairs[:, state.warm], parameters)
    squares = np.zeros(basis.shape[1])
    for start in range(0, scaled.shape[0], _USERS_AT_A_TIME):
        rows = scaled[start : start + _USERS_AT_A_TIME] @ basis
        squares += np.einsum("ur,ur->r", rows, rows, dtype=np.float64)
    return np.asarray(squares / (np.square(scaled.data, dtype=np.float64).sum() / scaled.shape[1]))
