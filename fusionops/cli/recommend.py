"""``fusionops recommend``: lists from a saved model, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from fusionops.cli import console
from fusionops.cli.requests import Request, known_ids

if TYPE_CHECKING:
    from fusionops.models.interface.recommender import Recommender


def run(folder: Path, request: Request, *, as_json: bool) -> None:
    """Print the k best items for each user, or for a history.

    Raises
    ------
    ValueError, LookupError, FileNotFoundError
        A user, item or column that the model does not know, or no model.
    """
    request.check("recommend")
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
    limits = {**request.limits(model), "at": request.at, "diversify": request.diversify}
    if request.history:
        history = known_ids("--history", request.history, model.items.ids)
        return model.recommend_for({"history": history}, request.k, **limits)
    users = known_ids("--user", request.users, model.users)
    return model.recommend(users, request.k, **limits)


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
