"""The two that every figure must be above: chance and popularity."""

from __future__ import annotations

import numpy as np

from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.evaluation.baselines.base import Baseline
from fusionops.evaluation.ranking import Scores


class Random(Baseline):
    """Uniform scores; the same call gives the same lists.

    Parameters
    ----------
    seed : int
    """

    name = "Random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def _learn(self, interactions: Interactions, items: Items | None) -> None:
        pass

    def scores(self, users: Codes, items: Codes | None = None) -> Scores:
        """Draw uniform numbers; see :meth:`Baseline.scores`."""
        n = self._history.shape[1] if items is None else len(items)
        return self._generator.random((len(users), n)).astype(np.float32)

    def rank(
        self, users: Codes, k: int, *, candidates: Codes | None = None, exclude_seen: bool = True
    ) -> tuple[Scores, Codes]:
        """Draw the lists anew; see :meth:`Baseline.rank`."""
        self._generator = np.random.default_rng(self.seed)  # one stream over the chunks of one call
        return super().rank(users, k, candidates=candidates, exclude_seen=exclude_seen)


class Popularity(Baseline):
    """The number of users that have the item."""

    name = "Popularity"

    def _learn(self, interactions: Interactions, items: Items | None) -> None:
        self._count = np.bincount(self._history.indices, minlength=self._history.shape[1]).astype(
            np.float32
        )

    def scores(self, users: Codes, items: Codes | None = None) -> Scores:
        """Return the counts; see :meth:`Baseline.scores`."""
        count = self._count if items is None else self._count[items]
        return np.broadcast_to(count, (len(users), len(count)))
