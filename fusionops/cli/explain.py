"""``fusionops explain``: why items are recommended, as sentences, tables and bar charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rich import box
from rich.table import Table
from rich.text import Text

from fusionops.cli import console
from fusionops.cli.requests import Request, known_ids
from fusionops.files import write_atomically

if TYPE_CHECKING:
    from fusionops.models.explanation import Explanation, Part
    from fusionops.models.interface.recommender import Recommender

_BAR = 20  # columns of the longest bar


@dataclass(frozen=True)
class Wanted:
    """The options of the command that are not of a list.

    Attributes
    ----------
    items : sequence of str
        Without any those of the list.
    method : str
    largest, most : int
    charts : Path or None
        Folder.
    """

    items: Sequence[str]
    method: str
    largest: int
    most: int
    charts: Path | None


def run(folder: Path, request: Request, wanted: Wanted, *, as_json: bool) -> None:
    """Explain items, or the items of a list.

    Raises
    ------
    ValueError, LookupError, FileNotFoundError
        A user, item or column that the model does not know, or no model.
    """
    request.check("explain")
    if request.history and request.at is not None:
        raise ValueError("--at needs --user ID: the items of --history have no times")
    from fusionops.models.saved import load_model  # imports torch

    model = load_model(folder)
    found = _explanations(model, request, wanted)
    if wanted.charts is not None:
        _write_charts(wanted.charts, found, wanted.most)
    if as_json:
        console.print_json({"explanations": [explanation.to_dict() for explanation in found]})
        return
    screen = console.stdout()
    for explanation in found:
        screen.print(Text(explanation.sentence()))
        for title, parts in (
            ("of the history", explanation.history[: wanted.most]),
            ("of what is known", explanation.modalities),
        ):
            if parts:
                screen.print(_table(title, explanation, parts))


def _explanations(model: Recommender, request: Request, wanted: Wanted) -> list[Explanation]:
    """Of the items that were named, or of the list."""
    items = known_ids("--item", wanted.items, model.items.ids)
    limits = request.limits(model)
    explain: Callable[..., Explanation]
    if request.history:
        history = known_ids("--history", request.history, model.items.ids)
        explain = partial(model.explain_for, history)
        listed = partial(model.recommend_for, {"history": history})
    else:
        users = known_ids("--user", request.users, model.users)
        limits["at"] = request.at
        explain, listed = partial(model.explain, users[0]), partial(model.recommend, users)
    items = items or listed(request.k, **limits)["item"].to_pylist()
    limits |= {"k": request.k, "method": wanted.method, "largest_removal": wanted.largest}
    return [explain(item, **limits) for item in items]


def _write_charts(folder: Path, explanations: Sequence[Explanation], most: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for explanation in explanations:
        # An id may hold what a file name may not.
        name = f"{quote(str(explanation.item), safe=' ')}.png"
        write_atomically(folder / name, explanation.chart(most=most))


def _table(title: str, explanation: Explanation, parts: Sequence[Part]) -> Table:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    columns = ("item" if parts is not explanation.modalities else "modality", "", "effect", "share")
    for heading, justify in zip(columns, ("left", "left", "right", "right"), strict=True):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    with_ranks = any(part.rank is not None for part in parts)
    if with_ranks:
        table.add_column("rank without", justify="right")
    longest = max((abs(part.effect) for part in parts), default=0) or 1.0
    for part in parts:
        bar = ("#" if part.effect >= 0 else "-") * round(_BAR * abs(part.effect) / longest)
        cells = [part.label, bar, f"{part.effect:.3g}", f"{explanation.share(part):.0%}"]
        cells += ["" if part.rank is None else str(part.rank)] if with_ranks else []
        table.add_row(*map(Text, cells))
    return table
