"""A table on its way to arrays: columns are checked, with a sentence for each problem."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionops.data.ids import Codes, IdMap
from fusionops.data.report import Report, Severity
from fusionops.data.times import to_utc

Mask = npt.NDArray[np.bool_]


class Reader:
    """The rows of a table that are usable so far; each check reports those that it leaves out.

    Parameters
    ----------
    table : pyarrow.Table or mapping of columns
        What was read.
    subject : str
        What the sentences call the table.
    report : Report
        Where the problems go. Rows are counted from 0, in the order of the table.
    """

    def __init__(self, table: pa.Table | Mapping[str, Any], subject: str, report: Report) -> None:
        if isinstance(table, Mapping):
            table = pa.table(dict(table))
        if not isinstance(table, pa.Table):
            kind = type(table).__name__
            raise TypeError(
                f"{subject} must be a pyarrow.Table or a mapping of columns, got {kind}"
            )
        self.table = table
        self.subject = subject
        self.report = report
        self._rows = np.arange(table.num_rows)
        self._already_reported = len(report)

    # Columns

    def column(self, name: str) -> pa.Array:
        """Return the column as one Arrow array."""
        column = self.table[name].combine_chunks()
        return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column

    def numpy(self, name: str) -> npt.NDArray[Any]:
        """Return the column as a NumPy array."""
        return np.array(self.column(name).to_numpy(zero_copy_only=False))

    def texts(self, name: str) -> list[str | None]:
        """Return the column as stripped text, None where it is null or blank."""
        texts = (None if value is None else str(value).strip() for value in self._values(name))
        return [text or None for text in texts]

    def codes(self, name: str) -> Codes:
        """Return equal integers for equal values, by first appearance; nulls are one value."""
        indices = self.column(name).dictionary_encode(null_encoding="encode").indices
        return np.array(indices.to_numpy(zero_copy_only=False), dtype=np.int64)

    # Checks of the table

    def require(self, *names: str) -> None:
        """Check that the columns exist and that there are rows."""
        missing = [name for name in names if name not in self.table.column_names]
        if missing:
            have = ", ".join(map(repr, self.table.column_names)) or "none"
            self._add(
                f"{_count(len(missing), 'column')} missing, for example {missing[0]!r}; "
                f"the columns are {have}",
                len(missing),
                missing[0],
                "error",
            )
        self.require_rows()

    def require_rows(self) -> None:
        """Check that there is a row, or that one is left."""
        if self.table.num_rows == 0:
            found = len(self.report) > self._already_reported
            state = "has no usable row left" if found else "is empty"
            self._add(f"the table {state}, 0 rows", 0, None, "error")

    # Checks of rows

    def ids(self, name: str, what: str, known: IdMap | None = None) -> None:
        """Leave out rows without an id, or with one that is not in ``known``."""
        column = self.column(name)
        if pa.types.is_floating(column.type):
            column = self._whole_numbers(name, column)
        present = column.is_valid()
        if _is_text(column.type):
            trimmed = pc.utf8_trim_whitespace(column)
            present = pc.fill_null(pc.not_equal(trimmed, ""), False)
        self._keep(_mask(present), f"without {what} id in column {name!r}")
        if known is not None and len(known) and self.table.num_rows:
            column = self.column(name)
            if _is_text(column.type) != (known.ids.dtype.kind == "U"):
                kinds = ("integers", "text") if _is_text(column.type) else ("text", "integers")
                self._add(
                    f"column {name!r} must hold {kinds[0]}, as the known ids, got {kinds[1]}, "
                    f"for example {column[0].as_py()!r}",
                    len(column),
                    column[0].as_py(),
                    "error",
                )
            is_known = known.encode(column, unknown="mark") >= 0
            self._keep(is_known, f"with an unknown {what} id in column {name!r}", column)

    def times(self, name: str) -> None:
        """Turn the column into UTC nanoseconds, leaving out rows where that cannot be done."""
        column = self.column(name)
        times = to_utc(column)
        self._replace(name, times)
        what = f"whose time in column {name!r} is missing or cannot be read"
        self._keep(_mask(times.is_valid()), what, column)

    def numbers(self, name: str) -> None:
        """Turn the column into float64, leaving out rows without a finite number."""
        column = self.column(name)
        numbers = to_numbers(column)
        self._replace(name, pa.array(numbers))
        what = f"whose number in column {name!r} is missing, NaN or cannot be read"
        self._keep(np.isfinite(numbers), what, column)

    def optional_numbers(self, name: str) -> None:
        """Turn the column into float64, NaN where there is no finite number; all rows stay."""
        column = self.column(name)
        numbers = to_numbers(column)
        finite = np.isfinite(numbers)
        self._replace(name, pa.array(np.where(finite, numbers, np.nan)))
        given = _mask(column.is_valid())
        if _is_number(column.type):
            given &= ~np.isnan(numbers)
        suffix = f"in column {name!r}"
        self._note(~finite & given, f"with a number that cannot be read {suffix}", column)
        self._note(~finite & ~given, f"with a missing number or NaN {suffix}", column)

    def one_of(self, name: str, allowed: Collection[str], what: str) -> None:
        """Turn the column into text, leaving out rows whose value is not allowed."""
        self._replace(name, pa.array(self.texts(name), pa.string()))
        column = self.column(name)
        found = pc.is_in(column, pa.array(list(allowed), pa.string()))
        self._keep(_mask(found), f"with {what} in column {name!r}", column)

    def duplicates_noted(self, names: Sequence[str]) -> None:
        """Report rows that repeat an earlier one in all of these columns; they are kept."""
        columns = ", ".join(map(repr, names))
        what = f"that {{verb}} an earlier row in {columns}"
        self._note(self._repeats(names), what, kept="kept")

    def duplicates_left_out(self, name: str, what: str) -> None:
        """Leave out rows that repeat an earlier value of one column."""
        what = f"that {{verb}} an earlier {what} in column {name!r}"
        self._keep(~self._repeats([name]), what, self.column(name))

    # Inside

    def _values(self, name: str) -> list[Any]:
        return list(self.column(name).to_pylist())

    def _whole_numbers(self, name: str, column: pa.Array) -> pa.Array:
        """Return integers for ids that a hole in the column has turned into floating numbers."""
        values = column.to_numpy(zero_copy_only=False)
        missing = np.isnan(values)
        whole = np.isfinite(values) & (values == np.floor(values))
        odd = np.flatnonzero(~whole & ~missing)
        if len(odd):
            example = float(values[odd[0]])
            self._add(
                f"{_count(len(odd), 'row')} whose id in column {name!r} is no whole number, "
                f"for example {example!r} in row {self._rows[odd[0]]}",
                len(odd),
                example,
                "error",
            )
        column = pa.array(np.where(whole, values, 0.0).astype(np.int64), mask=~whole)
        self._replace(name, column)
        return column

    def _repeats(self, names: Sequence[str]) -> Mask:
        """Say which rows repeat an earlier one in all of these columns."""
        key = np.zeros(self.table.num_rows, dtype=np.int64)
        for name in names:
            codes = self.codes(name)
            # Renumbered after each column, the key stays below rows squared: inside 64 bits.
            key = np.unique(key * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1]
        repeated = np.ones(len(key), dtype=bool)
        repeated[np.unique(key, return_index=True)[1]] = False
        return repeated

    def _replace(self, name: str, column: pa.Array) -> None:
        self.table = self.table.set_column(self.table.column_names.index(name), name, column)

    def _keep(self, good: Mask, what: str, shown: pa.Array | None = None) -> None:
        """Leave out the other rows and report them, with a value of ``shown`` as the example."""
        if not good.all():
            self._report(~good, what, shown, "left out", "dropped")
            self.table, self._rows = self.table.filter(pa.array(good)), self._rows[good]

    def _note(
        self, odd: Mask, what: str, shown: pa.Array | None = None, *, kept: str = "taken as missing"
    ) -> None:
        """Report rows that stay."""
        if odd.any():
            self._report(odd, what, shown, kept, "note")

    def _report(
        self, odd: Mask, what: str, shown: pa.Array | None, fate: str, severity: Severity
    ) -> None:
        count, at = int(odd.sum()), int(np.flatnonzero(odd)[0])
        row = int(self._rows[at])
        example = row if shown is None else shown[at].as_py()
        where = f"row {row}" if shown is None else f"{example!r} in row {row}"
        what = what.format(verb="repeats" if count == 1 else "repeat")
        self._add(
            f"{_count(count, 'row')} {what}, for example {where}; {fate}", count, example, severity
        )

    def _add(self, sentence: str, count: int, example: Any, severity: Severity) -> None:
        self.report.add(f"{self.subject}: {sentence}", count, example, severity=severity)


def to_numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """Return the column as float64, NaN where it is null or not a number."""
    if _is_number(column.type):
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    numbers = np.full(len(column), np.nan)
    for row, text in enumerate(column.to_pylist()):
        try:
            numbers[row] = float(text)
        except (TypeError, ValueError):
            continue
    return numbers


def _mask(column: pa.Array) -> Mask:
    return np.array(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_boolean(kind)
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
