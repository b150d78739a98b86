"""``fusionops encode``: columns of a table to files of vectors, by pretrained models."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from fusionops.cli import console
from fusionops.cli.encode_inputs import Column, read
from fusionops.data import Encoded, Items, Problem, Report
from fusionops.data.encoded_file import SUFFIX

if TYPE_CHECKING:
    from fusionops.models.encoders import Encoder

EXAMPLES = 5
"""So many unreadable contents of a column are shown; ``--json`` has them all."""


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    column: Column
    file: Path
    encoded: Encoded
    reused: int
    unreadable: list[Problem]

    def as_json(self) -> dict[str, Any]:
        """The counts, and the sentence of every unreadable content."""
        present, n = int(self.encoded.present.sum()), len(self.encoded)
        return {
            "name": self.column.name,
            "modality": self.column.modality,
            "column": self.column.column,
            "model": self.column.model,
            "file": str(self.file),
            "width": self.encoded.width,
            "items": n,
            "encoded": present - self.reused,
            "reused": self.reused,
            "missing": n - present - len(self.unreadable),
            "unreadable": len(self.unreadable),
            "problems": [problem.sentence for problem in self.unreadable],
        }


def run(
    file: Path,
    out: Path,
    models: Mapping[str, Sequence[str]],
    *,
    id_column: str,
    join: bool,
    batch_size: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Read, load the models, encode, and say what was done.

    Parameters
    ----------
    file : Path
        A table; paths in it are relative to its folder.
    out : Path
        The folder of the files.
    models : mapping of str to sequence of str
        ``[NAME:]COLUMN=MODEL`` by modality.
    id_column : str
        The ids.
    join : bool
        Take the rows of one id together.
    batch_size : int
        The most things in a batch.
    device : str, optional
        Of torch; by default a GPU where there is one.
    as_json : bool
        Print one JSON object in place of a table.
    """
    began = time.perf_counter()
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out must be a folder, and {out} is a file")
    report = Report()
    items, columns = read(file, models, id_column, join, report)
    # All of them before the first is used: a wrong name at the end would cost the hours before it.
    encoders = [_load(column, device) for column in columns]
    with console.counting() as count:
        outcomes = [
            _encode(items, column, encoder, file.parent, out, batch_size, count)
            for column, encoder in zip(columns, encoders, strict=True)
        ]
    problems = [problem.sentence for problem in report.problems]
    console.print_warnings(problems)
    features = [outcome.as_json() for outcome in outcomes]
    if as_json:
        seconds = round(time.perf_counter() - began, 2)
        result = {"out": str(out), "features": features, "problems": problems, "seconds": seconds}
        console.print_json(result)
    else:
        for feature in features:
            console.print_warnings(_examples(feature))
        screen = console.stdout()
        screen.print(_table(features))
        screen.print(f"{out}: {', '.join(outcome.file.name for outcome in outcomes)}", markup=False)
    _check_some_readable(outcomes, file.parent)


def _load(column: Column, device: str | None) -> Encoder:
    import torch
    from transformers.utils import logging

    from fusionops.models.encoders import load_encoder

    logging.disable_progress_bar()  # one bar is enough
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ValueError(f"--device: expected cpu, cuda or cuda:0, got {device!r}") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device: expected cpu, as there is no GPU here, got {device!r}")
    return load_encoder(column.modality, column.model).to(place)


def _encode(
    items: Items,
    column: Column,
    encoder: Encoder,
    base_folder: Path,
    out: Path,
    batch_size: int,
    count: console.Count,
) -> Outcome:
    from fusionops.models.encoders.encoding import encode

    reused: list[int] = []

    def progress(done: int, total: int) -> None:
        reused.append(done)
        count(column.name, done, total)

    kind = items.text if column.modality == "text" else items.media
    file = out / f"{column.name}{SUFFIX}"
    encoded, unreadable = encode(
        encoder,
        items.ids,
        kind[column.column],
        path=file,
        batch_size=batch_size,
        base_folder=base_folder,
        source={"model": column.model, "column": column.column},
        progress=progress,
    )
    return Outcome(column, file, encoded, reused[0], unreadable)


def _examples(feature: Mapping[str, Any]) -> list[str]:
    problems = feature["problems"]
    more = len(problems) - EXAMPLES
    rest = [f"{feature['name']}: {more:,} more cannot be read; --json lists them"]
    return [*problems[:EXAMPLES], *(rest if more > 0 else [])]


def _table(features: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    counts = ("width", "items", "encoded", "reused", "missing", "unreadable")
    table.add_column("name")
    table.add_column("modality")
    for name in counts:
        table.add_column(name, justify="right")
    for feature in features:
        numbers = (f"{feature[name]:,}" for name in counts)
        table.add_row(Text(feature["name"]), feature["modality"], *numbers)
    return table


def _check_some_readable(outcomes: Sequence[Outcome], base_folder: Path) -> None:
    """A wrong folder of pictures is no success, although the files are written."""
    for outcome in outcomes:
        if outcome.unreadable and not outcome.encoded.present.any():
            column = outcome.column
            raise ValueError(
                f"--{column.modality} {column.column}: none of the {len(outcome.unreadable):,} "
                f"contents can be read, for example {outcome.unreadable[0].sentence}"
                + ("" if column.modality == "text" else f" (paths are relative to {base_folder})")
            )
