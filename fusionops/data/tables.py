"""Reading tables, and checking their columns with a sentence for each problem."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionops.data.ids import IdMap
from fusionops.data.report import InputError, Report
from fusionops.data.times import to_utc


def read_table(path: str | Path, *, strings: Sequence[str] = ()) -> pa.Table:
    """Read a Parquet (``.parquet``, ``.pq``) or a CSV file (``.csv``, ``.tsv``, also ``.gz``).

    Parameters
    ----------
    path : str or Path
    strings : sequence of str
        Columns of a CSV file to read as text, for ids such as ``00123``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    InputError
        The ending is another, or the file is not what its ending says.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    ending = suffixes[-1] if suffixes else ""
    try:
        if ending in (".parquet", ".pq"):
            from pyarrow import parquet

            return parquet.read_table(path)
        if ending in (".csv", ".tsv"):
            from pyarrow import csv

            return csv.read_csv(
                path,
                parse_options=csv.ParseOptions(
                    delimiter="\t" if ending == ".tsv" else ",", newlines_in_values=True
                ),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(strings, pa.string()), strings_can_be_null=True
                ),
            )
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} cannot be read as {ending[1:]}: {error}") from error
    raise InputError(f"{path} must end in .parquet, .pq, .csv or .tsv to be read")


class Reader:
    """A table on its way to arrays: each check may leave rows out, and reports them.

    Parameters
    ----------
    table : pyarrow.Table or mapping of columns
    subject : str
        What the sentences call the table.
    report : Report
        Where the problems go.
    """

    def __init__(self, table: pa.Table | Mapping[str, Any], subject: str, report: Report) -> None:
        if isinstance(table, Mapping):
            table = pa.table(dict(table))
        if not isinstance(table, pa.Table):
            raise TypeError(
                f"{subject} must be a pyarrow.Table or a mapping of columns, got {type(table).__name__}"
            )
        self.table = table
        self.subject = subject
        self.report = report
        self.rows = np.arange(table.num_rows)  # row numbers of the file, for the examples

    def require(self, *names: str) -> None:
        """Return the columns exist and the table has rows."""
        missing = [name for name in names if name not in self.table.column_names]
        if missing:
            self.report.add(
                f"{self.subject}: {_count(len(missing), 'column')} missing, for example {missing[0]!r}; "
                f"the table has {', '.join(map(repr, self.table.column_names)) or 'none'}",
                len(missing),
                missing[0],
                severity="error",
            )
        self.require_rows()

    def require_rows(self) -> None:
        """There is at least one row (left)."""
        if self.table.num_rows == 0:
            left = "has no usable row left" if len(self.report) else "is empty"
            self.report.add(f"{self.subject}: the table {left}, 0 rows", 0, severity="error")

    def column(self, name: str) -> pa.Array:
        """Return the column as one Arrow array."""
        column = self.table[name].combine_chunks()
        return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column

    def numpy(self, name: str) -> npt.NDArray[Any]:
        """Return the column as a NumPy array."""
        return np.array(self.column(name).to_numpy(zero_copy_only=False))

    def codes(self, name: str) -> npt.NDArray[np.int64]:
        """Equal integers for equal values of the column, in order of appearance; nulls are one value."""
        indices = self.column(name).dictionary_encode(null_encoding="encode").indices
        return np.array(indices.to_numpy(zero_copy_only=False), dtype=np.int64)

    def drop_missing(self, name: str, what: str) -> None:
        """Leave out rows whose value is null, NaN or an empty text; ids must be text or integers."""
        column = self.column(name)
        if pa.types.is_floating(column.type):
            # A CSV column of integers with holes, or a pandas one, arrives as floating numbers.
            values = column.to_numpy(zero_copy_only=False)
            whole = np.isfinite(values) & (values == np.floor(values))
            if not (whole | np.isnan(values)).all():
                example = values[~(whole | np.isnan(values))][0]
                message = f"{self.subject}: column {name!r} must hold ids, text or whole numbers, for example not {example}"
                self.report.add(message, int((~whole).sum()), example, severity="error")
            column = pa.array(np.where(whole, values, 0).astype(np.int64), mask=~whole)
            self.replace(name, column)
        good = column.is_valid()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            good = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(column), ""), False)
        self.keep(
            good,
            lambda n, row: (
                f"{_count(n, 'row')} without {what} in column {name!r}, for example row {row}"
            ),
        )

    def drop_unknown(self, name: str, ids: IdMap | None, what: str) -> None:
        """Leave out rows whose id is not in the map."""
        if ids is not None:
            known = ids.encode(self.column(name), unknown="mark") >= 0
            self.keep_values(name, known, f"with an unknown {what} in column {name!r}")

    def drop_unless(self, name: str, known: Collection[str], what: str) -> None:
        """Leave out rows whose value is not one of ``known``."""
        column = self.column(name)
        allowed = pc.fill_null(pc.is_in(column, pa.array(list(known), column.type)), False)
        self.keep_values(name, allowed, f"with an {what} in column {name!r}")

    def parse_time(self, name: str) -> None:
        """Turn the column into UTC nanoseconds, leaving out what is not a time."""
        column = self.column(name)
        times = to_utc(column)
        good = times.is_valid()
        self.replace(name, times, keep_original=column)
        self.keep_values(
            name, good, f"whose time in column {name!r} is missing or cannot be read", shown=column
        )

    def parse_numbers(self, name: str, *, missing_allowed: bool = False) -> None:
        """Turn the column into float64, leaving out (or, if allowed, keeping as NaN) what is not a finite number."""
        column = self.column(name)
        numbers = to_numbers(column)
        good = np.isfinite(numbers)
        self.replace(name, pa.array(np.where(good, numbers, np.nan)))
        what = f"whose number in column {name!r} is missing, NaN or cannot be read"
        if not missing_allowed:
            self.keep_values(name, good, what, shown=column)
            return
        odd = ~good & column.is_valid().to_numpy(zero_copy_only=False)
        odd &= ~np.isnan(numbers) | ~_is_numeric(column.type)
        if odd.any():
            at = int(np.flatnonzero(odd)[0])
            sentence = (
                f"{self.subject}: {_count(int(odd.sum()), 'row')} whose number in column {name!r} cannot be read, "
                f"for example {column[at].as_py()!r} in row {self.rows[at]}; taken as missing"
            )
            self.report.add(sentence, int(odd.sum()), column[at].as_py(), severity="note")

    def note_duplicates(self, names: Sequence[str]) -> None:
        """Report rows that repeat an earlier one in all of these columns; they are kept."""
        repeated = np.flatnonzero(self.repeats(names))
        if len(repeated):
            example = {name: self.column(name)[int(repeated[0])].as_py() for name in names}
            sentence = (
                f"{self.subject}: {_count(len(repeated), 'row')} repeat an earlier row in "
                f"{', '.join(map(repr, names))}, for example row {self.rows[repeated[0]]}; they are kept"
            )
            self.report.add(sentence, len(repeated), example, severity="note")

    def drop_duplicates(self, name: str, what: str) -> None:
        """Leave out rows that repeat an earlier value of one column."""
        self.keep_values(
            name, ~self.repeats([name]), f"that repeat an earlier {what} in column {name!r}"
        )

    def repeats(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which rows repeat an earlier one in all of these columns."""
        key = np.zeros(self.table.num_rows, dtype=np.int64)
        for name in names:
            codes = self.codes(name)
            # Renumbering after each column keeps the key below rows squared, inside 64 bits.
            key = np.unique(key * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1]
        repeated = np.ones(len(key), dtype=bool)
        repeated[np.unique(key, return_index=True)[1]] = False
        return repeated

    def replace(self, name: str, column: pa.Array, keep_original: pa.Array | None = None) -> None:
        """Put a parsed column in the place of the raw one."""
        self.table = self.table.set_column(self.table.column_names.index(name), name, column)

    def keep_values(
        self, name: str, mask: Any, what: str, *, shown: pa.Array | None = None
    ) -> None:
        """Keep the rows of the mask; the sentence shows a value that went."""
        column = self.column(name) if shown is None else shown
        self.keep(
            mask,
            lambda n, row: (
                f"{_count(n, 'row')} {what}, for example {column[self._at(row)].as_py()!r} in row {row}"
            ),
        )

    def keep(self, mask: Any, sentence: Callable[[int, int], str]) -> None:
        """Keep the rows of the mask and report the others, with their count and the first row number."""
        mask = (
            mask.to_numpy(zero_copy_only=False)
            if isinstance(mask, (pa.Array, pa.ChunkedArray))
            else mask
        )
        gone = np.flatnonzero(~mask)
        if len(gone):
            row = int(self.rows[gone[0]])
            text = f"{self.subject}: {sentence(len(gone), row)}"
            self.report.add(text + ("" if self.report.strict else "; left out"), len(gone), row)
            self.table, self.rows = self.table.filter(pa.array(mask)), self.rows[mask]

    def _at(self, row: int) -> int:
        return int(np.searchsorted(self.rows, row))


def to_numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """Return the column as float64, NaN where it is null or not a number."""
    if _is_numeric(column.type) or pa.types.is_boolean(column.type):
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    numbers = np.full(len(column), np.nan)
    for row, text in enumerate(column.to_pylist()):
        try:
            numbers[row] = float(text)
        except (TypeError, ValueError):
            continue
    return numbers


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
