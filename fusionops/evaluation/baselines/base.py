"""What every baseline shares: full ranking from a row of scores over the catalogue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from scipy import sparse

from fusionops.data.encoded import Encoded
from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.evaluation.ranking import Scores, top_k

_CHUNK_ENTRIES = 1 << 23  # 32 MB of float32 scores at a time

Model = TypeVar("Model", bound="Baseline")


class Baseline(ABC):
    """A recommender that scores the whole catalogue for a user."""

    name: str
    _history: sparse.csr_array
    _features: Mapping[str, Encoded]

    def fit(
        self: Model,
        interactions: Interactions,
        items: Items | None = None,
        *,
        features: Mapping[str, Encoded] | None = None,
    ) -> Model:
        """Learn from interactions; the catalogue is ``interactions.items``.

        Parameters
        ----------
        interactions : Interactions
            Training rows.
        items : Items, optional
            The content of the catalogue, in any order, for the baselines that read it.
        features : mapping of str to Encoded, optional
            What encoders say of the catalogue, by modality, likewise.
        """
        self._features = features or {}
        self._history = interactions.matrix()
        self._learn(interactions, items)
        return self

    @abstractmethod
    def _learn(self, interactions: Interactions, items: Items | None) -> None:
        """Fit on ``self._history``."""

    @abstractmethod
    def scores(self, users: Codes, items: Codes | None = None) -> Scores:
        """Scores of some items for some users.

        Parameters
        ----------
        users : numpy.ndarray
            ``int64`` codes, shape ``[U]``.
        items : numpy.ndarray, optional
            ``int64`` codes, shape ``[C]``; by default the catalogue.

        Returns
        -------
        numpy.ndarray
            ``float32``, shape ``[U, C]``, -inf where the model has nothing to say.
        """

    def rank(
        self, users: Codes, k: int, *, candidates: Codes | None = None, exclude_seen: bool = True
    ) -> tuple[Scores, Codes]:
        """Return the k best items for each user.

        Parameters
        ----------
        users : numpy.ndarray
            ``int64`` codes, shape ``[U]``.
        k : int
            Length of the lists.
        candidates : numpy.ndarray, optional
            ``int64`` codes of the items to rank; by default the catalogue.
        exclude_seen : bool
            Leave out what the user has in the training rows.

        Returns
        -------
        scores, items : numpy.ndarray
            ``float32`` and ``int64``, shape ``[U, k]``; ties by the lower code, padded with -inf
            and -1.
        """
        users = np.asarray(users, dtype=np.int64)
        columns = None if candidates is None else np.unique(np.asarray(candidates, dtype=np.int64))
        chunk = max(1, _CHUNK_ENTRIES // max(1, self._history.shape[1]))
        parts = [
            self._rank_chunk(users[start : start + chunk], k, columns, exclude_seen)
            for start in range(0, max(1, len(users)), chunk)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate(
            [part[1] for part in parts]
        )

    def _rank_chunk(
        self, users: Codes, k: int, columns: Codes | None, exclude_seen: bool
    ) -> tuple[Scores, Codes]:
        scores = self.scores(users, columns)
        if exclude_seen:
            seen = self._history[users]
            seen = seen if columns is None else seen[:, columns]
            scores = scores.copy()
            scores[np.repeat(np.arange(len(users)), np.diff(seen.indptr)), seen.indices] = -np.inf
        return top_k(scores, k, columns=columns)
