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

BEHAVIOUR = "behaviour"

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

        Takes the products of the fit with the content kernel once more.
        """
        if state.cold is None:
            return cls(state, parameters, {})
        basis = state.vectors[state.warm]
        length = np.sqrt(np.einsum("pr,pr->r", basis, basis, dtype=np.float64))
        inverse = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        basis *= inverse.astype(np.float32)
        inner = _content_in(basis, state, parameters)
        spectrum, unit = _behaviour_spectrum(basis, state, parameters)
        spectrum += np.sum([np.diag(part) for part in inner.values()], axis=0)
        # D is the lengths that there are: of an eigenvalue near 0, L has few digits.
        normal = (np.maximum(spectrum, 0) + parameters.ridge) ** -parameters.power
        normal *= unit ** (1 - parameters.power)
        return cls(
            state,
            parameters,
            {
                name: ((inverse * normal)[:, None] * part * inverse).astype(np.float32)
                for name, part in inner.items()
            },
        )

    def of_items(self, user: Doubles, items: Codes) -> tuple[dict[str, Doubles], Doubles]:
        """What each modality adds to the scores of some items.

        Parameters
        ----------
        user : numpy.ndarray
            ``float64 [rank]``, a profile.
        items : numpy.ndarray
            ``int64 [n]``.

        Returns
        -------
        modalities : dict of str to numpy.ndarray
            ``float64 [n]`` each, ``behaviour`` among them. A modality of that name is part of it.
            All items have the same names.
        average : numpy.ndarray
            ``float64 [n]``, what the average item gets; 0 for items with history. With those of
            the modalities it adds up to the score.
        """
        cold = self.state.users_per_item[items] == 0
        found = {BEHAVIOUR: np.zeros(len(items))}
        average = np.zeros(len(items))
        for chosen, split in ((~cold, self._with_history), (cold, self._without_history)):
            if not chosen.any():
                continue
            parts, average[chosen] = split(user, items[chosen])
            for name, values in parts.items():
                found.setdefault(name, np.zeros(len(items)))[chosen] = values
        return found, average

    def _with_history(self, user: Doubles, items: Codes) -> tuple[dict[str, Doubles], Doubles]:
        vectors = self.state.vectors[items].astype(np.float64)
        row = torch.from_numpy(user.astype(np.float32))
        found: dict[str, Doubles] = {
            name: vectors @ (row @ torch.from_numpy(matrix)).double().numpy()
            for name, matrix in self.maps.items()
        }
        rest = vectors @ user - np.sum(list(found.values()), axis=0)
        found[BEHAVIOUR] = found.get(BEHAVIOUR, 0) + rest
        return found, np.zeros(len(items))

    def _without_history(self, user: Doubles, items: Codes) -> tuple[dict[str, Doubles], Doubles]:
        state = self.state
        if state.cold is None or state.new is None:
            return {}, state.vectors[items].astype(np.float64) @ user
        place = (np.cumsum(state.users_per_item == 0) - 1)[items]
        step = max(1, _KERNEL_ENTRIES // len(state.cold.features))
        parts = [
            state.cold.split(
                state.new[place[start : start + step]],
                state.vectors,
                state.warm,
                user,
                self.parameters,
            )
            for start in range(0, len(items), step)
        ]
        terms = {name: np.concatenate([split[name] for split, _ in parts]) for name in parts[0][0]}
        return terms, np.concatenate([average for _, average in parts])


def _content_in(basis: Floats, state: State, parameters: Parameters) -> dict[str, Doubles]:
    """``V' c K_m V`` of each term m, ``[rank, rank]``, in the same units."""
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


def _behaviour_spectrum(
    basis: Floats, state: State, parameters: Parameters
) -> tuple[Doubles, float]:
    """The diagonal of ``V' X_s' X_s V``, ``[rank]``, in units of the mean diagonal of X_s' X_s."""
    pairs = state.histories.pairs(len(state.items))
    pairs.eliminate_zeros()
    scaled, _ = scaled_histories(pairs[:, state.warm], parameters)
    squares = np.zeros(basis.shape[1])
    for start in range(0, scaled.shape[0], _USERS_AT_A_TIME):
        rows = scaled[start : start + _USERS_AT_A_TIME] @ basis
        squares += np.einsum("ur,ur->r", rows, rows, dtype=np.float64)
    unit = float(np.square(scaled.data, dtype=np.float64).sum() / scaled.shape[1])
    return squares / unit, unit
