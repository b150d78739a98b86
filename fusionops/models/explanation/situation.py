"""One user's question to a model, and what its answer would be had less been known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

import fusionops
from fusionops.data.ids import Codes
from fusionops.models.interface import requests
from fusionops.models.interface.asked import Asked
from fusionops.models.interface.recency import Recency
from fusionops.models.interface.requests import Request
from fusionops.models.interface.served import Served, Time
from fusionops.models.interface.serving import Floats, Limits, Mask

Doubles = npt.NDArray[np.float64]

_ENTRIES = 1 << 22  # of users by items at a time: 16 MB of scores
_VARIANTS, _ROWS = 1024, 1 << 18  # of histories at a time, and rows of them altogether
_WIDTH = 128  # ranks up to it are read off a list, which takes no row of all scores

NOT_LISTED = -1
"""The rank of an item that may not be in the list."""


@dataclass(frozen=True)
class Situation:
    """A user, what was had, and which items may be listed.

    Without an item of the history the rest keeps its weights, recency included, and the items that
    may be listed stay the same: an item that is taken out of the history does not come back as a
    recommendation.

    Attributes
    ----------
    model : Recommender
    asked : Asked
        Of one user.
    allowed : numpy.ndarray
        ``bool [P]``, the items that may be listed.
    k : int
        Length of the list.
    """

    model: Served
    asked: Asked
    allowed: Mask
    k: int = 10

    @classmethod
    def of(
        cls,
        model: Served,
        user: Any,
        *,
        k: int = 10,
        request: Request | None = None,
        recency: Recency | str | None = "auto",
        at: Time | None = None,
    ) -> Situation:
        """The question of a user that the model knows.

        Parameters
        ----------
        model : Recommender
        user : id
        k : int
            Length of the list.
        request : Request, optional
            Which items may be listed; by default all that are not in the history.
        recency, at
            As for ``Recommender.recommend``.
        """
        requests.check_one("user", user)
        labels, codes = requests.user_ids([user], model.users, argument="user")
        histories = model._shelf.histories.of(codes)
        asked = model._asked(codes, histories, recency, at)
        return cls.given(model, labels, asked, request or Request(True, None, None, None), k)

    @classmethod
    def given(
        cls,
        model: Served,
        labels: npt.NDArray[Any],
        asked: Asked,
        request: Request,
        k: int,
    ) -> Situation:
        """The question of one user, asked as a list would be."""
        requests.check_k(k)
        limits = request.limits(model.items, labels, asked.pairs)
        allowed = np.ones(len(model.items), bool) if limits.allowed is None else limits.allowed
        if limits.candidates is not None:
            named = np.zeros_like(allowed)
            named[limits.candidates.indices] = True
            allowed = allowed & named
        if limits.exclude is not None:
            allowed = allowed.copy()
            allowed[limits.exclude.indices] = False
        return cls(model, asked, allowed, k)

    @cached_property
    def history(self) -> Codes:
        """The codes of the items that make the profile, each once, ascending; ``int64 [H]``."""
        codes: Codes = self.asked.pairs.indices[self.asked.pairs.data > 0].astype(np.int64)
        return codes

    @cached_property
    def named(self) -> list[tuple[Any, str]]:
        """The id and the words of each item of :attr:`history`."""
        return [self.name(code) for code in self.history.tolist()]

    def name(self, item: int) -> tuple[Any, str]:
        """The id and the words of an item."""
        catalogue = self.model.items
        return catalogue.ids.ids[item].item(), catalogue.label(item)

    def scores(self, item: int, kept: Mask) -> Doubles:
        """What an item would score if only some of the history had been had.

        Parameters
        ----------
        item : int
            Its code.
        kept : numpy.ndarray
            ``bool [V, H]``, one row a variant of :attr:`history`.

        Returns
        -------
        numpy.ndarray
            ``float64 [V]``; 0 where nothing is left to go by.
        """
        found = self.outcomes(np.array([item]), kept, ranks=False)[0][:, 0]
        return np.nan_to_num(found, nan=0.0)

    def outcomes(
        self, items: Codes, kept: Mask, *, ranks: bool = True
    ) -> tuple[Doubles, npt.NDArray[np.int64]]:
        """Scores and ranks of items in variants of the history.

        Parameters
        ----------
        items : numpy.ndarray
            ``int64 [n]`` codes.
        kept : numpy.ndarray
            ``bool [V, H]``.
        ranks : bool
            False leaves out the ranks, which look at the whole catalogue.

        Returns
        -------
        scores : numpy.ndarray
            ``float64 [V, n]``; NaN where nothing is left to go by.
        ranks : numpy.ndarray
            ``int64 [V, n]`` from 1, :data:`NOT_LISTED` for what may not be listed, or unasked.
        """
        kept = self._checked(kept)
        scores = np.full((len(kept), len(items)), np.nan)
        places = np.full((len(kept), len(items)), NOT_LISTED, np.int64)
        for rows in self._batches(len(kept)):
            asked = self.variants(kept[rows])
            profiles, known = self.model._profiles(asked)
            vectors = self.model._shelf.vectors[items]
            scores[rows] = np.where(known[:, None], product(profiles, vectors), np.nan)
            if ranks:
                places[rows] = self._ranks(asked, profiles, known, items)
        return scores, places

    def lists(self, kept: Mask) -> tuple[Floats, Codes]:
        """The best of the items that may be listed, in variants of the history.

        Returns
        -------
        scores, items : numpy.ndarray
            ``float32`` and ``int64 [V, width]``, ``width > k`` where there are as many items:
            the first k are the list.
        """
        kept = self._checked(kept)
        parts = []
        for rows in self._batches(len(kept)):
            asked = self.variants(kept[rows])
            parts.append(self._list(asked, *self.model._profiles(asked)))
        return np.concatenate([part[0] for part in parts]), np.concatenate(
            [part[1] for part in parts]
        )

    def variants(self, kept: Mask) -> Asked:
        """The same question with variants of the history, ``bool [V, H]``, as users of one call."""
        count, history, pairs = len(kept), self.history, self.asked.pairs
        rows = self.asked.histories.of(np.zeros(count, np.int64))
        variant = np.repeat(np.arange(count), np.diff(rows.offsets))
        pair_kept = np.ones((count, len(pairs.indices)), bool)
        pair_kept[:, pairs.data > 0] = kept
        return Asked(
            np.repeat(self.asked.users, count),
            rows.where(self._stay(rows.items, variant, kept, history)),
            sparse.csr_array(
                (
                    np.broadcast_to(pairs.data, pair_kept.shape)[pair_kept],
                    np.broadcast_to(pairs.indices, pair_kept.shape)[pair_kept],
                    np.concatenate([[0], np.cumsum(pair_kept.sum(axis=1))]),
                ),
                shape=(count, pairs.shape[1]),
            ),
        )

    def counted_ranks(
        self, profiles: Floats, known: Mask, items: Codes, own: Floats
    ) -> npt.NDArray[np.int64]:
        """Ranks of items among those that may be listed, by counting who scores more.

        Parameters
        ----------
        profiles, known : numpy.ndarray
            ``float32 [V, D]`` and ``bool [V]``; without a profile popularity decides.
        items : numpy.ndarray
            ``int64 [n]``.
        own : numpy.ndarray
            ``float32 [V, n]``, the scores of the items; where there is no profile they do not
            matter.
        """
        shelf = self.model._shelf
        ranks = np.empty(own.shape, np.int64)
        step = max(1, _ENTRIES // len(shelf.vectors))
        for start in range(0, len(profiles), step):
            rows = slice(start, start + step)
            others = product(profiles[rows], shelf.vectors)
            others[~known[rows]] = shelf.popularity
            others[:, ~self.allowed] = -np.inf
            for row, scores in enumerate(others, start):
                mine = own[row] if known[row] else shelf.popularity[items]
                # Row by row, which stays in the caches.
                for place, (item, score) in enumerate(zip(items.tolist(), mine, strict=True)):
                    ties = np.count_nonzero(scores[:item] >= score)
                    ranks[row, place] = 1 + ties + np.count_nonzero(scores[item + 1 :] > score)
        ranks[:, ~self.allowed[items]] = NOT_LISTED
        return ranks

    def _ranks(
        self, asked: Asked, profiles: Floats, known: Mask, items: Codes
    ) -> npt.NDArray[np.int64]:
        """Off the list where they are in it, and counted for the others."""
        _, listed = self._list(asked, profiles, known)
        ranks = np.full((len(profiles), len(items)), NOT_LISTED, np.int64)
        for place, item in enumerate(items):
            row, rank = np.nonzero(listed == item)
            ranks[row, place] = rank + 1
        beyond = (ranks == NOT_LISTED) & self.allowed[items]
        rows, columns = np.flatnonzero(beyond.any(axis=1)), np.flatnonzero(beyond.any(axis=0))
        if len(rows):
            own = product(profiles[rows], self.model._shelf.vectors[items[columns]])
            counted = self.counted_ranks(profiles[rows], known[rows], items[columns], own)
            part = np.ix_(rows, columns)
            ranks[part] = np.where(beyond[part], counted, ranks[part])
        return ranks

    def _list(self, asked: Asked, profiles: Floats, known: Mask) -> tuple[Floats, Codes]:
        width = min(self.model._pool(self.k) or max(self.k + 1, _WIDTH), len(self.allowed))
        return self.model._ranked(asked, profiles, known, width, Limits(self.allowed))

    def _batches(self, count: int) -> Iterator[slice]:
        """Some variants at a time, at least once."""
        step = max(1, min(_VARIANTS, _ROWS // max(1, len(self.asked.histories.items))))
        for start in range(0, max(1, count), step):
            yield slice(start, start + step)

    def _stay(
        self, items: Codes, variant: npt.NDArray[np.integer], kept: Mask, history: Codes
    ) -> Mask:
        """Which rows of the histories stay; what counts nothing only says that it was met."""
        if len(history) == 0:
            return np.ones(len(items), bool)
        place = np.minimum(np.searchsorted(history, items), len(history) - 1)
        stay: Mask = (history[place] != items) | kept[variant, place]
        return stay

    def _checked(self, kept: Mask) -> Mask:
        kept = np.asarray(kept)
        if kept.dtype != np.bool_ or kept.ndim != 2 or kept.shape[1] != len(self.history):
            raise ValueError(
                f"kept: expected bool [V, {len(self.history)}], got {kept.dtype} {list(kept.shape)}"
            )
        return kept


def product(profiles: Floats, vectors: Floats) -> Floats:
    """Scores ``[V, n]``, in the order of additions of the lists."""
    scores = fusionops.fusion_matrix(
        torch.from_numpy(profiles), torch.from_numpy(vectors), normalization="none"
    )
    return scores.numpy()
