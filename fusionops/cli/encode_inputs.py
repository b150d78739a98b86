"""What of a stranger's table is to be encoded: which columns, by which models, by what names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from fusionops.cli.options import assignments
from fusionops.data import Items, Report, read_table


@dataclass(frozen=True)
class Column:
    """What becomes a file: a column, by a model of a modality, under a name."""

    modality: str
    name: str
    column: str
    model: str


def read(
    file: Path,
    models: Mapping[str, Sequence[str]],
    id_column: str,
    join: bool,
    report: Report,
) -> tuple[Items, list[Column]]:
    """The rows of a table with the columns that are to be encoded, and what these are.

    Parameters
    ----------
    file : Path
        A table.
    models : mapping of str to sequence of str
        ``[NAME:]COLUMN=MODEL`` by modality.
    id_column : str
        The ids.
    join : bool
        Take the rows of one id together.
    report : Report
        Collects the rows that are left out.

    Raises
    ------
    ValueError
        A text that is not of this form, a name that cannot be that of a file or comes twice, or a
        table that cannot be used.
    """
    table = read_table(file, strings=(id_column, *_perhaps_columns(models)))
    columns = _columns(models, table.column_names)
    texts = list(dict.fromkeys(one.column for one in columns if one.modality == "text"))
    media = list(dict.fromkeys(one.column for one in columns if one.modality != "text"))
    if join and media:
        raise ValueError("--join takes texts together, and cannot be given with --image or --audio")
    if join and {id_column, *texts} <= set(table.column_names):
        table = _joined(table, id_column, texts)
    return Items.from_table(table, id=id_column, text=texts, media=media, report=report), columns


def _perhaps_columns(models: Mapping[str, Sequence[str]]) -> set[str]:
    """Names to be read as text, so that ``007`` stays as it is written."""
    left = [
        name
        for modality, texts in models.items()
        for name, _ in assignments(f"--{modality}", texts)
    ]
    return {*left, *(name.partition(":")[2] for name in left)} - {""}


def _columns(models: Mapping[str, Sequence[str]], have: Sequence[str]) -> list[Column]:
    columns: list[Column] = []
    for modality, texts in models.items():
        for left, model in assignments(f"--{modality}", texts):
            name, colon, column = left.partition(":")
            if left in have or not colon:
                name = column = left
            _check(f"--{modality}", name, column, model, [one.name for one in columns])
            columns.append(Column(modality, name, column, model))
    if not columns:
        raise ValueError("give at least one of --text, --image and --audio COLUMN=MODEL")
    return columns


def _check(option: str, name: str, column: str, model: str, taken: Sequence[str]) -> None:
    if not model:
        raise ValueError(f"{option} must look like COLUMN=MODEL, got no model for {column!r}")
    reason = ""
    if not name or name.startswith(".") or Path(name).name != name:
        reason = "cannot be the name of a file"
    elif name in taken:
        reason = "comes more than once"
    if reason:
        raise ValueError(
            f"{option}: the name {name!r} {reason}; give another as NAME:{column}={model}"
        )


def _joined(table: pa.Table, id_column: str, texts: Sequence[str]) -> pa.Table:
    """One row an id, its texts joined by line ends."""
    table = pa.table(
        {id_column: table[id_column], **{name: table[name].cast(pa.string()) for name in texts}}
    )
    grouped = table.group_by(id_column, use_threads=False).aggregate(
        [(name, "list") for name in texts]
    )
    columns = {name: grouped[f"{name}_list"].to_pylist() for name in texts}
    joined = {name: [_lines(cells) for cells in column] for name, column in columns.items()}
    return pa.table({**joined, id_column: grouped[id_column]})


def _lines(cells: Sequence[str | None]) -> str:
    return "\n".join(cell for cell in cells if cell is not None)
