"""Reading tables from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from fusionops.data.report import InputError


def read_table(path: str | Path, *, strings: Sequence[str] = ()) -> pa.Table:
    """Read a Parquet (``.parquet``, ``.pq``) or a CSV file (``.csv``, ``.tsv``, also ``.gz``).

    Parameters
    ----------
    path : str or Path
        The file; its ending says what it is.
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
    endings = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    ending = endings[-1] if endings else ""
    try:
        if ending in (".parquet", ".pq"):
            return parquet.read_table(path)
        if ending in (".csv", ".tsv"):
            return _read_csv(path, "\t" if ending == ".tsv" else ",", strings)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as {ending[1:]}: {reason}") from error
    raise InputError(f"{path} must end in .parquet, .pq, .csv or .tsv to be read")


def _read_csv(path: Path, delimiter: str, strings: Sequence[str]) -> pa.Table:
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(strings, pa.string()), strings_can_be_null=True
        ),
    )
