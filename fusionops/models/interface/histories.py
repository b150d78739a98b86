"""What each user has had, in order, and the weights with which it makes a profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.models.interface.recency import Recency

Times = npt.NDArray[np.datetime64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Histories:
    """Rows of events by user, oldest first, as one ragged array.

    Attributes
    ----------
    offsets : numpy.ndarray
        ``int64 [U + 1]``; the rows of user u are ``offsets[u]:offsets[u + 1]``.
    items : numpy.ndarray
        ``int64 [n]`` item codes; an item may come again.
    weights : numpy.ndarray
        ``float32 [n]``, the weight of each event.
    times : numpy.ndarray or None
        ``datetime64[ns] [n]``, not falling within a user.
    ordered : bool
        Whether the order of the rows means anything.
    events : numpy.ndarray or None
        ``int64 [n]``, the kind of each event, for models that tell them apart.
    """

    offsets: Codes
    items: Codes
    weights: Floats
    times: Times | None = None
    ordered: bool = True
    events: Codes | None = None

    @classmethod
    def from_interactions(cls, interactions: Interactions, kinds: Sequence[str] = ()) -> Histories:
        """The rows of each user by time; without times their order means nothing.

        Parameters
        ----------
        kinds : sequence of str
            The kinds of event, which ``events`` index.
        """
        rows = interactions.ordered()
        events = None
        if kinds and rows.event is not None:
            names, which = np.unique(rows.event, return_inverse=True)
            events = np.array([kinds.index(str(name)) for name in names], np.int64)[which]
        count = np.bincount(rows.user, minlength=len(rows.users))
        return cls(
            np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
            rows.item,
            rows.weight,
            rows.time,
            rows.time is not None,
            events,
        )

    @classmethod
    def from_sequences(cls, sequences: Iterable[Codes]) -> Histories:
        """One history a sequence of item codes, oldest first."""
        parts = list(sequences)
        lengths = [len(part) for part in parts]
        items = np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(offsets, items, np.ones(len(items), np.float32))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What safetensors hold of them, for :meth:`from_arrays`."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "histories.offsets": self.offsets,
            "histories.items": self.items,
            "histories.weights": self.weights,
        }
        if self.times is not None:
            arrays["histories.times"] = self.times.astype(np.int64)
        if self.events is not None:
            arrays["histories.events"] = self.events
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], *, ordered: bool) -> Histories:
        """The inverse of :meth:`to_arrays`."""
        times = arrays.get("histories.times")
        return cls(
            arrays["histories.offsets"],
            arrays["histories.items"],
            arrays["histories.weights"],
            None if times is None else times.astype("datetime64[ns]"),
            ordered,
            arrays.get("histories.events"),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, users: Codes) -> Histories:
        """The histories of some users, in their order; code -1 has an empty one."""
        known = users >= 0
        starts = np.where(known, self.offsets[users], 0)
        lengths = np.where(known, self.offsets[users + 1] - starts, 0)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return self._rows(rows, offsets)

    def until(self, at: np.datetime64) -> Histories:
        """What was known at a moment: the rows of that time or earlier."""
        if self.times is None:
            raise ValueError("at: expected histories with times, got histories without")
        return self.where(self.times <= at)

    def counted(self) -> Histories:
        """The rows of weight above 0: the others say only that the user has met the item."""
        return self.where(self.weights > 0)

    def distinct(self, n_items: int) -> Histories:
        """Each item once a user and kind of event, where it came last."""
        user = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        key = user * n_items + self.items
        if self.events is not None:
            key = key * (int(self.events.max(initial=0)) + 1) + self.events
        last = len(key) - 1 - np.unique(key[::-1], return_index=True)[1]
        rows = np.sort(last)
        counts = np.bincount(user[rows], minlength=len(self))
        return self._rows(rows, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def pairs(
        self, n_items: int, recency: Recency | None = None, at: np.datetime64 | None = None
    ) -> sparse.csr_array:
        """Each (user, item) pair once, with its weight in the profile.

        The largest weight among the events of the pair, times the recency of its last event. Only
        rows of these histories are looked at, so nothing can leak in from outside them.

        Returns
        -------
        scipy.sparse.csr_array
            ``float32 [U, n_items]``. Pairs of weight 0 are stored: the user has met the item.
        """
        user = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        key = user * n_items + self.items
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=-1))
        values = np.maximum.reduceat(self.weights[order], starts) if len(starts) else self.weights
        last = order[np.append(starts[1:], len(order)) - 1] if len(starts) else order
        if recency is not None:
            values = values * recency.weights(self._age(last, user[last], recency, at))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(user[last], minlength=len(self)))])
        return sparse.csr_array(
            (values.astype(np.float32), self.items[last], indptr), shape=(len(self), n_items)
        )

    def _age(self, last: Codes, user: Codes, recency: Recency, at: np.datetime64 | None) -> Codes:
        """Age of the pairs whose last rows are ``last``, grouped by user."""
        if recency.unit == "items":
            newest_first = np.lexsort((-last, user))
            age = np.empty(len(last), np.int64)
            age[newest_first] = np.arange(len(last)) - np.searchsorted(user, user)
            return age
        if self.times is None:
            raise ValueError(
                "recency: expected histories with times for the unit 'days', got histories without"
            )
        day = self.times.astype("datetime64[D]")
        now = day[self.offsets[user + 1] - 1] if at is None else at.astype("datetime64[D]")
        days: Codes = (now - day[last]).astype(np.int64)
        return days

    def where(self, kept: npt.NDArray[np.bool_]) -> Histories:
        """The rows of a mask, ``bool [n]``."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return self._rows(np.flatnonzero(kept), before[self.offsets].astype(np.int64))

    def _rows(self, rows: npt.NDArray[np.integer], offsets: Codes) -> Histories:
        times = None if self.times is None else self.times[rows]
        events = None if self.events is None else self.events[rows]
        return Histories(offsets, self.items[rows], self.weights[rows], times, self.ordered, events)
