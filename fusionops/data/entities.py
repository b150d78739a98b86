"""What items and users have in common: an id map, and columns by kind beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionops.data.ids import Codes, IdMap
from fusionops.data.reader import Reader
from fusionops.data.report import Report

Table = TypeVar("Table", bound="Entities")


@dataclass(frozen=True)
class Entities:
    """Rows of a table of things with an id; row i is the thing of code i.

    Attributes
    ----------
    ids : IdMap
    text : dict of str to list of str or None
        Free text, None where missing.
    numeric : dict of str to numpy.ndarray
        ``float64``, NaN where missing.
    categorical : dict of str to numpy.ndarray
        Objects (str), None where missing.
    media : dict of str to list of str or None
        Paths of pictures, sounds and the like, None where missing.
    """

    ids: IdMap
    text: dict[str, list[str | None]] = field(default_factory=dict)
    numeric: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    categorical: dict[str, npt.NDArray[np.object_]] = field(default_factory=dict)
    media: dict[str, list[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in ("text", "numeric", "categorical", "media"):
            for name, column in getattr(self, kind).items():
                if len(column) != len(self.ids):
                    raise ValueError(
                        f"{kind} column {name!r} must have {len(self.ids)} rows, got {len(column)}"
                    )

    @classmethod
    def from_table(
        cls: type[Table],
        table: pa.Table | Mapping[str, Any],
        *,
        id: str | None = None,
        text: Sequence[str] = (),
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        media: Sequence[str] = (),
        report: Report | None = None,
    ) -> Table:
        """Make entities from named columns of a table, in the order of its rows.

        Parameters
        ----------
        table : pyarrow.Table or mapping of columns
            What was read.
        id : str, optional
            The column of ids, text or integers; by default the kind's own, ``item`` or ``user``.
        text, numeric, categorical, media : sequence of str
            Columns of each kind. Empty text counts as missing.
        report : Report, optional
            Collects the problems: rows without an id, and all but the first row of an id, are
            left out. Without it they raise.

        Raises
        ------
        InputError
            A column is missing, the table is empty, or, without ``report``, a row cannot be used.
        """
        for argument, names in (
            ("text", text),
            ("numeric", numeric),
            ("categorical", categorical),
            ("media", media),
        ):
            if isinstance(names, str):
                raise TypeError(
                    f"{argument} must be a sequence of column names, got the string {names!r}"
                )
        subject = cls.__name__.lower()
        id = subject[:-1] if id is None else id
        reader = Reader(table, subject, Report(strict=True) if report is None else report)
        reader.require(id, *text, *numeric, *categorical, *media)
        reader.ids(id, subject[:-1])
        reader.duplicates_left_out(id, "id")
        for name in numeric:
            reader.optional_numbers(name)
        reader.require_rows()
        return cls(
            ids=IdMap(reader.column(id).to_pylist()),
            text={name: reader.texts(name) for name in text},
            numeric={name: reader.numpy(name).astype(np.float64) for name in numeric},
            categorical={name: np.array(reader.texts(name), dtype=object) for name in categorical},
            media={name: reader.texts(name) for name in media},
        )

    def take(
        self: Table, ids: npt.ArrayLike | IdMap, *, missing: Literal["raise", "empty"] = "raise"
    ) -> Table:
        """Return these entities in this order.

        Parameters
        ----------
        ids : IdMap or array-like of ids
            The ids wanted.
        missing : {"raise", "empty"}
            What an id that is not here does: raise KeyError, or become a row of missing values.
        """
        if missing not in ("raise", "empty"):
            raise ValueError(f"missing must be 'raise' or 'empty', got {missing!r}")
        wanted = ids if isinstance(ids, IdMap) else IdMap(ids)
        codes = self.ids.encode(wanted.ids, unknown="raise" if missing == "raise" else "mark")
        return self._gather(codes, wanted)

    def append(self: Table, other: Table) -> Table:
        """Return these rows, then the others; a column that one side lacks is missing there."""
        kinds = {}
        for kind, empty in (
            ("text", None),
            ("numeric", np.nan),
            ("categorical", None),
            ("media", None),
        ):
            ours, theirs = getattr(self, kind), getattr(other, kind)
            kinds[kind] = {
                name: _join(
                    ours.get(name, [empty] * len(self)),
                    theirs.get(name, [empty] * len(other)),
                    kind,
                )
                for name in {**ours, **theirs}
            }
        return type(self)(IdMap(np.concatenate([self.ids.ids, other.ids.ids])), **kinds)

    def filter(self, where: Mapping[str, Any] | Callable[[dict[str, Any]], bool]) -> Codes:
        """Return the codes of the rows that satisfy a condition.

        Parameters
        ----------
        where : mapping or callable
            A mapping of column to a value, to a list, tuple or set of values, or to a
            ``slice(low, high)`` for ``low <= x <= high``; all must hold, and a missing value
            satisfies none. Or a function of a row (a dict with its id and columns) to a bool.
        """
        if callable(where):
            return np.array(
                [code for code in range(len(self)) if where(self.row(code))], dtype=np.int64
            )
        if not isinstance(where, Mapping):
            raise TypeError(
                f"where must be a mapping or a function of a row, got {type(where).__name__}"
            )
        mask = np.ones(len(self), dtype=bool)
        for name, condition in where.items():
            mask &= _satisfies(self.column(name), condition)
        return np.flatnonzero(mask)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of any kind by its name, ``id`` for the ids."""
        if name == "id":
            return self.ids.ids
        for kind in (self.text, self.numeric, self.categorical, self.media):
            if name in kind:
                column = kind[name]
                return column if isinstance(column, np.ndarray) else np.array(column, dtype=object)
        raise KeyError(
            f"there is no column {name!r}; the columns are {', '.join(map(repr, self.columns))}"
        )

    def row(self, code: int) -> dict[str, Any]:
        """One row as a dict, with its id under ``id``."""
        return {name: self.column(name)[code] for name in ("id", *self.columns)}

    @property
    def columns(self) -> list[str]:
        """The names of the columns, the id left out."""
        return [*self.text, *self.numeric, *self.categorical, *self.media]

    def _gather(self: Table, codes: Codes, ids: IdMap) -> Table:
        absent = codes < 0
        numeric = {
            name: np.where(absent, np.nan, _padded(column, np.nan)[codes])
            for name, column in self.numeric.items()
        }
        categorical = {
            name: _padded(column, None)[codes] for name, column in self.categorical.items()
        }
        text = {
            name: [column[c] if c >= 0 else None for c in codes]
            for name, column in self.text.items()
        }
        media = {
            name: [column[c] if c >= 0 else None for c in codes]
            for name, column in self.media.items()
        }
        return type(self)(ids, text, numeric, categorical, media)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows; {', '.join(self.columns) or 'no columns'})"


def _padded(column: npt.NDArray[Any], empty: Any) -> npt.NDArray[Any]:
    """Return the column with a missing value behind it, where code -1 points."""
    return np.concatenate([column, np.array([empty], dtype=column.dtype)])


def _join(left: Any, right: Any, kind: str) -> Any:
    if kind in ("text", "media"):
        return [*left, *right]
    dtype = np.float64 if kind == "numeric" else object
    return np.concatenate([np.asarray(left, dtype), np.asarray(right, dtype)])


def _satisfies(column: npt.NDArray[Any], condition: Any) -> npt.NDArray[np.bool_]:
    if isinstance(condition, slice):
        numbers = column.astype(np.float64)
        low = -np.inf if condition.start is None else condition.start
        high = np.inf if condition.stop is None else condition.stop
        return (numbers >= low) & (numbers <= high)
    wanted = (
        list(condition)
        if isinstance(condition, (list, tuple, set, frozenset, np.ndarray))
        else [condition]
    )
    if column.dtype == object:
        chosen = set(wanted) - {None}
        return np.array([value in chosen for value in column], dtype=bool)
    return np.isin(column, wanted)
