"""From real purchases and real item text to recommendations, measured against baselines."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fusionops.cli import comparison, console, tables, words
from fusionops.cli.comparison import OURS, PROTOCOLS, Outcome, Question
from fusionops.data import Interactions, Report, online_retail
from fusionops.evaluation import protocols
from fusionops.files import write_atomically

if TYPE_CHECKING:
    from fusionops.models import LinearFusion

K = 20
CUSTOMERS = 3
MODELS = {name: (*comparison.BASELINES[name], OURS) for name in PROTOCOLS}


def run(out: Path, *, as_json: bool) -> None:
    """Run the quickstart.

    Parameters
    ----------
    out : Path
        Folder of ``comparison.png``, ``results.json`` and ``results.md``.
    as_json : bool
        Print one JSON object in place of text and tables.
    """
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)  # an --out that cannot be made is said at once
    report = Report()
    interactions, items = online_retail.load(report=report)
    if not as_json:
        _print_data(interactions, report)

    questions = _questions(interactions)
    groups = list(comparison.grouped(questions))
    total = sum(len(comparison.models_of(group, MODELS)) for group in groups)
    outcomes: list[Outcome] = []
    customers: list[words.Customer] = []
    with console.progress(total + 1) as step:
        for group in groups:
            found, fitted = comparison.answer(group, items, MODELS, K, step)
            outcomes += found
            if group[0].protocol == "next_visit":
                split = group[0].split
                model = cast("LinearFusion", fitted[OURS])
                chosen = words.draw_customers(split, CUSTOMERS)
                customers = words.describe(model, split, items, chosen)
        step("intervals and the picture")
        outcomes.sort(key=lambda outcome: PROTOCOLS.index(outcome.question.protocol))
        comparisons = comparison.compared(outcomes)
        _write_picture(out / "comparison.png", outcomes)

    result: dict[str, Any] = {
        **comparison.as_json(outcomes, comparisons),
        "cleaning": [problem.sentence for problem in report.problems],
        "customers": [customer.as_json() for customer in customers],
        "picture": str(out / "comparison.png"),
        "seconds": round(time.perf_counter() - began, 2),
    }
    markdown = tables.markdown_table(outcomes, comparisons, K)
    notes = "\n".join(f"* {note}" for note in tables.notes_of(outcomes))
    write_atomically(out / "results.md", f"{markdown}\n\n{notes}\n".encode())
    text = json.dumps(console.finite(result), allow_nan=False, ensure_ascii=False, indent=2)
    write_atomically(out / "results.json", f"{text}\n".encode())
    if as_json:
        console.print_json(result)
        return
    screen = console.stdout()
    screen.print(tables.terminal_table(outcomes, comparisons, K), "")
    for note in tables.notes_of(outcomes):
        screen.print(note, "", markup=False)
    _print_customers(customers)
    screen.print(
        f"{out / 'comparison.png'}, results.md and results.json written; "
        f"{result['seconds']:.0f} seconds in all",
        markup=False,
    )


def _questions(interactions: Interactions) -> list[Question]:
    questions = []
    for name in PROTOCOLS:
        dates = protocols.ONLINE_RETAIL_DATES if name in ("cold", "one_list") else ()
        questions += comparison.ask(interactions, name, dates)
    return questions


def _write_picture(target: Path, outcomes: list[Outcome]) -> None:
    from fusionops.cli.picture import draw  # imports matplotlib

    write_atomically(target, draw(outcomes, K))


def _print_data(interactions: Interactions, report: Report) -> None:
    screen = console.stdout()
    screen.print("Online Retail (UCI 352, CC BY 4.0), cleaned:", markup=False)
    for problem in report.problems:
        screen.print(f"  {problem.sentence.partition(': ')[2]}", markup=False)
    screen.print(
        f"  {len(interactions):,} purchases of {len(interactions.items):,} items by "
        f"{len(interactions.users):,} customers remain",
        "",
        markup=False,
    )


def _print_customers(customers: list[words.Customer]) -> None:
    screen = console.stdout()
    screen.print(
        f"{len(customers)} customers drawn at random from the next-visit test:", "", markup=False
    )
    screen.print(words.customer_table(customers), "")
