"""``fusionops recommend``: lists from a saved model, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from fusionops.cli import console
from fusionops.cli.options import assignments, number
from fusionops.data import IdMap, Items

if TYPE_CHECKING:
    from fusionops.models.interface.recommender import Recommender


@dataclass(frozen=True)
class Request:
    """The options of the command, as they were typed."""

    users: Sequence[str] = ()
    history: Sequence[str] = ()
    k: int = 10
    exclude: Sequence[str] = ()
    candidates: Sequence[str] = ()
    filters: Sequence[str] = ()
    recency: str = "auto"
    at: str | None = None
    diversify: float = 0.0
    exclude_seen: bool = True


def run(folder: Path, request: Request, *, as_json: bool) -> None:
    """Print the k best items for each user, or for a history.

    Raises
    ------
    ValueError, LookupError, FileNotFoundError
        A user, item or column that the model does not know, or no model.
    """
    if bool(request.users) == bool(request.history):
        raise ValueError("recommend needs --user ID or --history ITEM, one of the two")
    from fusionops.models.saved import load_model  # imports torch

    model = load_model(folder)
    table = _lists(model, request)
    codes = model.items.ids.encode(table["item"])
    table = table.append_column("text", pa.array([model.items.label(c) for c in codes.tolist()]))
    if as_json:
        console.print_json({"recommendations": table.to_pylist()})
        return
    who = request.users or ["this history"]
    rows = table.to_pylist()
    for name in who:
        mine = [row for row in rows if request.history or str(row["user"]) == name]
        _print_list(name, mine, request.k)


def _lists(model: Recommender, request: Request) -> pa.Table:
    items = model.items.ids
    limits: dict[str, Any] = {
        "exclude_seen": request.exclude_seen,
        "exclude": _known("--exclude", request.exclude, items) or None,
        "candidates": _known("--candidate", request.candidates, items) or None,
        "item_filter": where(request.filters, model.items) or None,
        "recency": None if request.recency == "none" else request.recency,
        "at": request.at,
        "diversify": request.diversify,
    }
    if request.history:
        history = _known("--history", request.history, items)
        return model.recommend_for({"history": history}, request.k, **limits)
    users = _known("--user", request.users, model.users)
    return model.recommend(users, request.k, **limits)


def where(filters: Sequence[str], items: Items) -> dict[str, Any]:
    """Conditions of ``COLUMN=VALUE``: numbers also ``LOW..HIGH``, a column twice means either.

    Raises
    ------
    ValueError
        A column that the items do not have, or no number for a column of numbers.
    """
    found: dict[str, Any] = {}
    for name, text in assignments("--filter", filters):
        if name not in items.columns:
            have = ", ".join(items.columns) or "none"
            raise ValueError(f"--filter: there is no item column {name!r}; the columns are {have}")
        if name not in items.numeric:
            found.setdefault(name, []).append(text)
            continue
        condition = _numeric_condition(name, text)
        if isinstance(condition, float) and not isinstance(found.get(name), slice):
            found.setdefault(name, []).append(condition)
        elif name not in found:
            found[name] = condition
        else:
            raise ValueError(f"--filter {name}: a range cannot be given beside another condition")
    return found


def _numeric_condition(name: str, text: str) -> float | slice:
    """``5``, or ``3..5``, ``3..`` and ``..5`` with both ends in."""
    option = f"--filter {name}"
    if ".." not in text:
        return number(option, text)
    low, _, high = text.partition("..")
    return slice(*(number(option, end) if end else None for end in (low, high)))


def _known(option: str, texts: Sequence[str], ids: IdMap) -> list[Any]:
    """Typed ids in the kind of the model's ids."""
    found: list[Any] = []
    for text in texts:
        value: Any = text
        if ids.ids.dtype.kind in "iu":
            try:
                value = int(text)
            except ValueError:
                raise ValueError(f"{option}: ids are integers, got {text!r}") from None
        if value not in ids:
            hint = "; for someone new give --history ITEM" if option == "--user" else ""
            raise ValueError(f"{option}: the model does not know {text!r}{hint}")
        found.append(value)
    return found


def _print_list(name: str, rows: list[dict[str, Any]], k: int) -> None:
    screen = console.stdout()
    table = Table(title=Text(f"for {name}"), title_justify="left", box=box.SIMPLE_HEAD)
    for heading, justify in (
        ("rank", "right"), ("item", "left"), ("text", "left"), ("score", "right"), ("how", "left"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        score = f"{row['score']:.4g}"
        cells = (str(row["rank"]), str(row["item"]), row["text"], score, row["how"])
        table.add_row(*map(Text, cells))
    screen.print(table)
    if len(rows) < k:
        console.print_warnings([f"{len(rows)} of {k} for {name}: no other item is allowed"])
