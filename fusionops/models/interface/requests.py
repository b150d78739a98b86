"""What a caller asks for, checked and turned into codes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from fusionops.data.ids import Codes, IdMap
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.models.interface.histories import Histories
from fusionops.models.interface.serving import Limits, item_codes, item_lists, union
from fusionops.models.interface.tables import HOW

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Request:
    """The arguments of a call that say which items may be recommended."""

    exclude_seen: bool
    exclude: Any
    candidates: Any
    item_filter: Any

    def limits(
        self, items: Items, users: npt.NDArray[Any], seen: sparse.csr_array | None
    ) -> Limits:
        """These arguments in codes, for the users of one call."""
        labels = users.tolist()
        allowed = np.ones(len(items), dtype=bool)
        narrowed = self.item_filter is not None
        if self.item_filter is not None:
            allowed[:] = False
            allowed[_filtered(items, self.item_filter)] = True
        per_user: dict[str, sparse.csr_array | None] = {"exclude": None, "candidates": None}
        for argument in per_user:
            value = getattr(self, argument)
            if value is None:
                continue
            lists = item_lists(argument, value, labels, items.ids)
            if isinstance(lists, np.ndarray):
                named = np.zeros(len(items), dtype=bool)
                named[lists] = True
                allowed &= ~named if argument == "exclude" else named
                narrowed = True
            else:
                per_user[argument] = lists
        if self.exclude_seen:
            per_user["exclude"] = union(per_user["exclude"], seen)
        return Limits(allowed if narrowed else None, per_user["exclude"], per_user["candidates"])


def _filtered(items: Items, where: Any) -> Codes:
    """The codes of the items that satisfy a condition, with the name of the argument in errors."""
    if callable(where):
        return items.filter(where)
    try:
        return items.filter(where)
    except (KeyError, TypeError) as error:
        raise type(error)(f"item_filter: {error.args[0]}") from None


def check_k(k: Any) -> None:
    """``k`` must be an int of at least 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k: expected an int, got {type(k).__name__}")
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")


def check_diversify(diversify: Any) -> None:
    """``diversify`` must be a number in [0, 1]."""
    if isinstance(diversify, bool) or not isinstance(diversify, (int, float, np.floating)):
        raise TypeError(f"diversify: expected a number, got {type(diversify).__name__}")
    if not 0 <= diversify <= 1:
        raise ValueError(f"diversify: expected a number in [0, 1], got {diversify}")


def user_ids(
    users: Any, known: IdMap, *, argument: str = "users"
) -> tuple[npt.NDArray[Any], Codes]:
    """User ids as an array, and their codes, -1 for users not seen."""
    if isinstance(users, (str, bytes)) or np.isscalar(users):
        raise TypeError(f"users: expected a sequence of user ids, got {users!r}")
    values = users if isinstance(users, np.ndarray) else list(users)
    if len(values) == 0:
        return known.ids[:0], np.empty(0, np.int64)
    try:
        return np.asarray(values), known.encode(values, unknown="mark")
    except TypeError as error:
        raise TypeError(f"{argument}: {error.args[0]}") from None


def check_one(argument: str, id: Any) -> None:
    """``id`` must be one id."""
    if isinstance(id, Collection) and not isinstance(id, (str, bytes)):
        raise TypeError(f"{argument}: expected one id, got {id!r}")


def given_histories(
    histories: Mapping[Any, Sequence[Any]] | Sequence[Sequence[Any]] | pa.Table, items: IdMap
) -> tuple[npt.NDArray[Any], Histories]:
    """Labels and ragged codes of histories in any of the forms that callers have them in."""
    if isinstance(histories, pa.Table):
        time = "time" if "time" in histories.column_names else None
        rows = Interactions.from_table(histories, time=time, items=items)
        return rows.users.ids, Histories.from_interactions(rows)
    if isinstance(histories, Mapping):
        labels, sequences = list(histories), list(histories.values())
    elif isinstance(histories, Sequence) and not isinstance(histories, (str, bytes)):
        labels, sequences = list(range(len(histories))), list(histories)
    else:
        raise TypeError(
            "histories: expected a mapping, a sequence of sequences or a pyarrow.Table, "
            f"got {type(histories).__name__}"
        )
    codes = [
        item_codes(f"histories[{label!r}]", sequence, items)
        for label, sequence in zip(labels, sequences, strict=True)
    ]
    return np.asarray(labels), Histories.from_sequences(codes)


def pair_columns(pairs: Any) -> tuple[list[Any], list[Any]]:
    """The user and the item column of pairs."""
    if isinstance(pairs, (pa.Table, Mapping)):
        names = pairs.column_names if isinstance(pairs, pa.Table) else list(pairs)
        for name in ("user", "item"):
            if name not in names:
                raise ValueError(f"pairs: expected a column {name!r}, got {names}")
        columns = [
            column.to_pylist() if isinstance(column, (pa.Array, pa.ChunkedArray)) else list(column)
            for column in (pairs["user"], pairs["item"])
        ]
        if len(columns[0]) != len(columns[1]):
            raise ValueError(
                "pairs: expected columns of one length, "
                f"got {len(columns[0])} users and {len(columns[1])} items"
            )
        return columns[0], columns[1]
    rows = list(pairs)
    for row in rows:
        if isinstance(row, (str, bytes)) or len(row) != 2:
            raise ValueError(f"pairs: expected (user, item) tuples, got {row!r}")
    return [row[0] for row in rows], [row[1] for row in rows]


def new_items(table: Any, catalogue: Items, id: str) -> Items:
    """Items with the columns of the catalogue, none of which is in it."""
    if isinstance(table, Items):
        added = table
        lacking = [name for name in catalogue.columns if name not in added.columns]
        if lacking:
            raise ValueError(f"table: expected the columns {catalogue.columns}, got no {lacking}")
    else:
        added = Items.from_table(
            table,
            id=id,
            text=tuple(catalogue.text),
            numeric=tuple(catalogue.numeric),
            categorical=tuple(catalogue.categorical),
            media=tuple(catalogue.media),
        )
    known = catalogue.ids.encode(added.ids.ids, unknown="mark") >= 0
    if known.any():
        raise ValueError(
            f"table: expected items that are not in the catalogue, got {int(known.sum())} that "
            f"are, for example {added.ids.ids[known][0].item()!r}"
        )
    return added


def has_profile(pairs: sparse.csr_array) -> Mask:
    """Which users have a history to go by: a pair of weight above 0; ``[U]``."""
    return np.asarray(pairs.sum(axis=1)).ravel() > 0


def how(
    pairs: sparse.csr_array, known: Mask, users_per_item: Codes
) -> Callable[[npt.NDArray[np.integer], Codes], npt.NDArray[np.int64]]:
    """A function of (user row, item code), which broadcast, to the index into ``HOW``."""
    # A history of items nobody else has had says only what its items are like.
    informed = np.asarray(pairs @ (users_per_item > 0).astype(np.float32)).ravel() > 0

    def of(row: npt.NDArray[np.integer], item: Codes) -> npt.NDArray[np.int64]:
        behavioural = informed[row] & (users_per_item[item] > 0)
        kind = np.where(behavioural, HOW.index("history"), HOW.index("content"))
        return np.where(known[row], kind, HOW.index("popularity"))

    return of
