"""Options that several commands share, and the small languages of their values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

_COLUMNS = "Columns"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]

InteractionsFile = Annotated[
    Path,
    typer.Option("--interactions", metavar="FILE", help="Who did what: .parquet, .csv or .tsv."),
]
ItemsFile = Annotated[
    Path | None,
    typer.Option("--items", metavar="FILE", help="What items are like: .parquet, .csv or .tsv."),
]


FeaturesFolder = Annotated[
    Path | None,
    typer.Option("--features", metavar="DIR", help="Vectors of items that encode has made."),
]


def _column(name: str, help: str) -> Any:
    return typer.Option(name, metavar="NAME", help=help, rich_help_panel=_COLUMNS)


UserColumn = Annotated[str, _column("--user-column", "Ids of users.")]
ItemColumn = Annotated[str, _column("--item-column", "Ids of items.")]
TimeColumn = Annotated[str | None, _column("--time-column", "Default: 'time' where it is there.")]
SessionColumn = Annotated[
    str | None, _column("--session-column", "Visits or invoices. Default: 'session' if there.")
]
EventColumn = Annotated[str | None, _column("--event-column", "Kinds of events.")]
EventWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--event-weight",
        metavar="EVENT=WEIGHT",
        help="Repeat. Default: view=0.2 save=0.5 purchase=1 rating=1.",
        rich_help_panel=_COLUMNS,
    ),
]
WeightColumn = Annotated[
    str | None, _column("--weight-column", "Weights, multiplied by those of the events.")
]
ItemIdColumn = Annotated[
    str | None, _column("--item-id-column", "Ids in the items file. Default: as --item-column.")
]
TextColumns = Annotated[
    list[str] | None,
    _column("--text", "A text column of items; repeat. Default: all columns, by their type."),
]
NumericColumns = Annotated[
    list[str] | None, _column("--numeric", "A column of numbers of items; repeat.")
]
CategoryColumns = Annotated[
    list[str] | None, _column("--categorical", "A column of categories of items; repeat.")
]

ModelFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A model that fit has saved.")]
Users = Annotated[
    list[str] | None, typer.Option("--user", metavar="ID", help="Whom to recommend to; repeat.")
]
History = Annotated[
    list[str] | None,
    typer.Option(metavar="ITEM", help="An item someone new has had, oldest first; repeat."),
]
Length = Annotated[int, typer.Option("-k", min=1, help="Length of the lists.")]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="ITEM", help="Never recommend it; repeat.")
]
Candidates = Annotated[
    list[str] | None, typer.Option("--candidate", metavar="ITEM", help="Rank only these; repeat.")
]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="COLUMN=VALUE",
        help="Only such items; numbers also as LOW..HIGH; repeat.",
    ),
]
RecencyName = Annotated[
    str, typer.Option("--recency", help="How older items fade: auto, next_visit, basket or none.")
]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Answer as of that moment.")]
IncludeSeen = Annotated[
    bool, typer.Option("--include-seen", help="Recommend what they have had, too.")
]


def models(modality: str, what: str) -> Any:
    """The option of a modality of ``fusionops encode``."""
    return typer.Option(
        f"--{modality}",
        metavar="[NAME:]COLUMN=MODEL",
        help=f"{what}, by a model: a folder or an id on the Hugging Face hub; repeat.",
    )


def assignments(option: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """``NAME=VALUE`` texts as pairs.

    Raises
    ------
    ValueError
        A text has no ``=``, or nothing before it.
    """
    pairs = []
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{option} must look like NAME=VALUE, got {text!r}")
        pairs.append((name.strip(), value.strip()))
    return pairs


def event_weights(values: Sequence[str]) -> dict[str, float]:
    """The weights of ``--event-weight``."""
    weights = {}
    for name, value in assignments("--event-weight", values):
        weights[name] = number("--event-weight", value)
    return weights


def parameters(values: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """The parameters of an option, values as JSON; a bare word is text."""
    found: dict[str, Any] = {}
    for name, value in assignments(option, values):
        try:
            found[name] = json.loads(value)
        except ValueError:
            if not value.isidentifier():
                raise ValueError(
                    f"{option} {name} must be a number, a word or a JSON value, got {value!r}"
                ) from None
            found[name] = value
    return found


def number(option: str, text: str) -> float:
    """A number, or a sentence."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option} must hold a number, got {text!r}") from None
