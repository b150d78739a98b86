"""``fusionops evaluate``: models side by side on a stranger's interactions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from fusionops.cli import comparison, console, tables
from fusionops.cli.comparison import BASELINES, OURS, WITH_FEATURES
from fusionops.cli.inputs import (
    InteractionColumns,
    ItemColumns,
    read_interactions,
    read_items,
    with_catalogue,
    with_features,
)
from fusionops.data import Items, Report, load_features

DENSE_ITEMS = 20_000
"""Above so many items the baselines that invert a matrix of items by items are left out."""

_DENSE = ("EASE", "CarriedEASE", "SummedCarriedEASE")


def run(
    interactions_file: Path,
    items_file: Path | None,
    features_folder: Path | None,
    columns: InteractionColumns,
    item_columns: ItemColumns,
    *,
    protocol_names: Sequence[str],
    dates: Sequence[str],
    models: Sequence[str],
    k: int,
    as_json: bool,
) -> None:
    """Read, split, fit, evaluate, print.

    Parameters
    ----------
    interactions_file, items_file : Path
        Parquet or CSV files.
    features_folder : Path, optional
        What ``fusionops encode`` has written.
    columns, item_columns
        Names of columns.
    protocol_names, dates, models : sequence of str
        What was asked; no models means LinearFusion and the baselines of the protocol.
    k : int
        Length of the lists.
    as_json : bool
        Print one JSON object in place of a table.
    """
    began = time.perf_counter()
    for name in models:
        comparison.check_model(name)
    report = Report()
    interactions = read_interactions(interactions_file, columns, report)
    items = None
    if items_file is not None:
        items = read_items(items_file, item_columns, report)
        # Every protocol takes its catalogue from the interactions, so items of nobody fall out.
        interactions, items = with_catalogue(interactions, items, report)
    features = {} if features_folder is None else load_features(features_folder)
    if features:
        interactions, items, features = with_features(interactions, items, features, report)
    questions = [
        question
        for name in dict.fromkeys(protocol_names)
        for question in comparison.ask(interactions, name, dates)
    ]
    n_items = max(len(question.split.train.items) for question in questions)
    chosen = {
        name: tuple(models) or _defaults(name, items, bool(features), n_items, report)
        for name in protocol_names
    }
    groups = list(comparison.grouped(questions))
    outcomes: list[comparison.Outcome] = []
    with (
        console.progress(sum(len(comparison.models_of(g, chosen)) for g in groups)) as step,
        console.collected_warnings(report),
        console.only_results_on_stdout(),
    ):
        for group in groups:
            outcomes += comparison.answer(group, items, chosen, k, step, features=features)[0]
    outcomes.sort(key=lambda outcome: comparison.PROTOCOLS.index(outcome.question.protocol))
    comparisons = comparison.compared(outcomes)
    problems = list(dict.fromkeys(problem.sentence for problem in report.problems))
    console.print_warnings(problems)
    if as_json:
        seconds = round(time.perf_counter() - began, 2)
        shape = comparison.as_json(outcomes, comparisons)
        console.print_json({**shape, "problems": problems, "seconds": seconds})
        return
    screen = console.stdout()
    screen.print(tables.terminal_table(outcomes, comparisons, k), "")
    for note in tables.notes_of(outcomes):
        screen.print(note, "", markup=False)


def _defaults(
    protocol: str, items: Items | None, has_features: bool, n_items: int, report: Report
) -> tuple[str, ...]:
    """LinearFusion and those baselines that these data allow."""
    has_text = items is not None and bool(items.text)
    if protocol == "cold" and not (has_text or has_features):
        raise ValueError(
            "--protocol cold ranks items without history by what they are like: "
            "give --items FILE with a text column, or --features DIR"
        )
    baselines = WITH_FEATURES if has_features else BASELINES
    names = [name for name in baselines[protocol] if has_text or name != "CarriedEASE"]
    dense = [name for name in names if name in _DENSE]
    if dense and n_items > DENSE_ITEMS:
        report.add(
            f"{protocol}: {' and '.join(dense)} would invert a matrix of {n_items:,} x "
            f"{n_items:,}; left out, --model {dense[0]} runs it all the same",
            len(dense),
            severity="note",
        )
        names = [name for name in names if name not in dense]
        if "Popularity" not in names:
            names.append("Popularity")
    return (*names, OURS)
