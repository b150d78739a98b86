"""Who did what with which item, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from fusionops.data.ids import Codes, IdMap
from fusionops.data.reader import Reader
from fusionops.data.report import Report

EVENT_WEIGHTS: Mapping[str, float] = {"view": 0.2, "save": 0.5, "purchase": 1.0, "rating": 1.0}
"""A plain choice of event weights: a view says less than a purchase."""


@dataclass(frozen=True)
class Interactions:
    """Interactions as columns of equal length, one row an event.

    Attributes
    ----------
    user, item : numpy.ndarray
        ``int64`` codes, shape ``[n]``, into ``users`` and ``items``.
    users, items : IdMap
        The users and the catalogue. Both may hold ids without a row.
    time : numpy.ndarray or None
        ``datetime64[ns]``, UTC.
    event : numpy.ndarray or None
        The kind of event, strings.
    weight : numpy.ndarray
        ``float32``, shape ``[n]``; ones when not given.
    session : numpy.ndarray or None
        ``int64``, equal within a visit, for example the invoice.
    """

    user: Codes
    item: Codes
    users: IdMap
    items: IdMap
    time: npt.NDArray[np.datetime64] | None = None
    event: npt.NDArray[np.str_] | None = None
    weight: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    session: Codes | None = None

    def __post_init__(self) -> None:
        n = len(self.user)
        if len(self.weight) == 0:
            object.__setattr__(self, "weight", np.ones(n, dtype=np.float32))
        for name in ("item", "time", "event", "weight", "session"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise ValueError(f"{name} must have the length of user, {n}, got {len(column)}")
        for name, codes, ids in (("user", self.user, self.users), ("item", self.item, self.items)):
            if codes.dtype != np.int64:
                raise TypeError(f"{name} must be int64 codes, got {codes.dtype}")
            if n and not (codes.min() >= 0 and codes.max() < len(ids)):
                raise ValueError(
                    f"{name} must hold codes in 0..{len(ids) - 1}, got {codes.min()}..{codes.max()}"
                )

    @classmethod
    def from_table(
        cls,
        table: pa.Table | Mapping[str, Any],
        *,
        user: str = "user",
        item: str = "item",
        time: str | None = "time",
        event: str | None = None,
        weight: str | None = None,
        session: str | None = None,
        event_weights: Mapping[str, float] | None = None,
        users: IdMap | None = None,
        items: IdMap | None = None,
        report: Report | None = None,
    ) -> Interactions:
        """Make interactions from named columns of a table, in the order of its rows.

        Parameters
        ----------
        table : pyarrow.Table or mapping of columns
            What was read.
        user, item, time, event, weight, session : str or None
            Names of the columns; ``None`` for one that the table does not have. Times are
            timestamps, dates, ISO 8601 text, or numbers of seconds since 1970.
        event_weights : mapping of str to float, optional
            The weight of each kind of event, multiplied by the weight column where there is one
            (so a rating counts ``event_weights["rating"] * value``). Needs ``event``.
        users, items : IdMap, optional
            Known ids; rows with others are problems. By default the ids of the table, sorted.
        report : Report, optional
            Collects the problems, and their rows are left out. Without it they raise.

        Raises
        ------
        InputError
            A column is missing, the table is empty, or, without ``report``, a row cannot be used.
        """
        if event_weights is not None and event is None:
            raise ValueError(
                "event_weights was given without event, the name of the column of events"
            )
        reader = Reader(table, "interactions", Report(strict=True) if report is None else report)
        named = [name for name in (user, item, time, event, weight, session) if name is not None]
        reader.require(*named)
        reader.ids(user, "user", users)
        reader.ids(item, "item", items)
        if time is not None:
            reader.times(time)
        if weight is not None:
            reader.numbers(weight)
        if event is not None and event_weights is not None:
            reader.one_of(event, event_weights, "an event that has no weight")
        reader.duplicates_noted(named)
        reader.require_rows()

        users = IdMap.from_values(reader.column(user)) if users is None else users
        items = IdMap.from_values(reader.column(item)) if items is None else items
        events = None
        if event is not None:
            events = np.array([text or "" for text in reader.texts(event)], dtype=np.str_)
        weights = np.ones(reader.table.num_rows, dtype=np.float32)
        if weight is not None:
            weights = reader.numpy(weight).astype(np.float32)
        if event_weights is not None and events is not None:
            kinds, which = np.unique(events, return_inverse=True)
            of_kind = np.array([event_weights[str(kind)] for kind in kinds], dtype=np.float32)
            weights = weights * of_kind[which]
        return cls(
            user=users.encode(reader.column(user)),
            item=items.encode(reader.column(item)),
            users=users,
            items=items,
            time=None if time is None else reader.numpy(time),
            event=events,
            weight=weights,
            session=None if session is None else reader.codes(session),
        )

    def select(self, rows: npt.ArrayLike) -> Interactions:
        """Return the rows of a bool mask or of an index, with the same id maps."""
        rows = np.asarray(rows)
        columns = ("user", "item", "time", "event", "weight", "session")
        chosen: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows]
            for name in columns
        }
        return replace(self, **chosen)

    def ordered(self) -> Interactions:
        """Return the rows sorted by user, then time, then their present order."""
        keys = (self.user,) if self.time is None else (self.time, self.user)
        return self.select(np.lexsort(keys))

    def is_first_of_pair(self) -> npt.NDArray[np.bool_]:
        """Mark the first row of each (user, item) pair in the present order; bool ``[n]``."""
        pair = self.user * len(self.items) + self.item
        first = np.zeros(len(self), dtype=bool)
        first[np.unique(pair, return_index=True)[1]] = True
        return first

    def first_pairs(self) -> Interactions:
        """Each (user, item) pair once, at its first row, sorted by user, time and row."""
        rows = self.ordered()
        return rows.select(rows.is_first_of_pair())

    def restrict(
        self, *, users: npt.ArrayLike | None = None, items: npt.ArrayLike | None = None
    ) -> Interactions:
        """Return the rows of some users and items, with new id maps that hold only these.

        Parameters
        ----------
        users, items : array-like of int64, optional
            Codes to keep, in the order of their new codes. By default those that have a row now.
        """
        kept_users = np.unique(self.user) if users is None else np.asarray(users, dtype=np.int64)
        kept_items = np.unique(self.item) if items is None else np.asarray(items, dtype=np.int64)
        new_user = _renumber(kept_users, len(self.users))[self.user]
        new_item = _renumber(kept_items, len(self.items))[self.item]
        rows = (new_user >= 0) & (new_item >= 0)
        return replace(
            self.select(rows),
            user=new_user[rows],
            item=new_item[rows],
            users=IdMap(self.users.ids[kept_users]),
            items=IdMap(self.items.ids[kept_items]),
        )

    def matrix(self) -> sparse.csr_array:
        """Return the binary matrix of the pairs, ``float32`` CSR, shape ``[n_users, n_items]``."""
        shape = (len(self.users), len(self.items))
        matrix = sparse.csr_array(
            (np.ones(len(self), np.float32), (self.user, self.item)), shape=shape
        )
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        return f"Interactions({len(self)} rows, {len(self.users)} users, {len(self.items)} items)"


def _renumber(kept: Codes, n: int) -> Codes:
    """Return a table from old code to new, -1 for those that go."""
    new = np.full(n, -1, dtype=np.int64)
    new[kept] = np.arange(len(kept))
    return new
