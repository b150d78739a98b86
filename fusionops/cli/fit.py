"""``fusionops fit``: a stranger's files to a model folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionops.cli import console
from fusionops.cli.inputs import (
    InteractionColumns,
    ItemColumns,
    read_interactions,
    read_items,
    with_catalogue,
    with_features,
)
from fusionops.data import Report, load_features

if TYPE_CHECKING:
    from fusionops.models import LinearFusion


def run(
    interactions_file: Path,
    items_file: Path | None,
    features_folder: Path | None,
    out: Path,
    columns: InteractionColumns,
    item_columns: ItemColumns,
    parameters: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Read, fit, save, and say what was done.

    Parameters
    ----------
    interactions_file, items_file : Path
        Parquet or CSV files.
    features_folder : Path, optional
        What ``fusionops encode`` has written.
    out : Path
        The model folder.
    columns, item_columns
        Names of columns.
    parameters : mapping
        Of LinearFusion.
    as_json : bool
        Print one JSON object in place of sentences.
    """
    began = time.perf_counter()
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out must be a folder, and {out} is a file")
    model = _new(parameters)
    report = Report()
    interactions = read_interactions(interactions_file, columns, report)
    items = None
    if items_file is not None:
        items = read_items(items_file, item_columns, report)
        interactions, items = with_catalogue(interactions, items, report)
    features = {} if features_folder is None else load_features(features_folder)
    if features:
        interactions, items, features = with_features(interactions, items, features, report)
    with console.progress(2) as step:
        step(f"fitting {len(interactions):,} rows")
        with console.collected_warnings(report):
            model.fit(interactions, items, features=features)
        step("saving")
        model.save_pretrained(out)

    problems = [problem.sentence for problem in report.problems]
    console.print_warnings(problems)
    result = {
        "model": str(out),
        "rows": len(interactions),
        "users": len(model.users),
        "items": len(model.items),
        "items_without_history": len(model.items) - len(np.unique(interactions.item)),
        "columns": model.items.columns,
        "features": {name: one.width for name, one in features.items()},
        "problems": problems,
        "seconds": round(time.perf_counter() - began, 2),
    }
    if as_json:
        console.print_json(result)
        return
    screen = console.stdout()
    content = ", ".join(model.items.columns) or "none"
    if features:
        content += f"; features: {', '.join(features)}"
    screen.print(
        f"{out}: LinearFusion of {result['users']:,} users and {result['items']:,} items "
        f"(columns: {content}), fitted on {result['rows']:,} rows in {result['seconds']:.1f} s",
        markup=False,
    )
    example = model.users.ids[0]
    screen.print(f"next: fusionops recommend {out} --user {example} -k 10", markup=False)


def _new(parameters: Mapping[str, Any]) -> LinearFusion:
    from fusionops.models import LinearFusion  # imports torch
    from fusionops.models.linear_fusion import Parameters

    known = [field.name for field in fields(Parameters)]
    for name in parameters:
        if name not in known:
            raise ValueError(f"--set knows {', '.join(known)}, got {name!r}")
    return LinearFusion(**parameters)
