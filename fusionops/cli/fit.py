"""``fusionops fit``: a stranger's files to a model folder."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

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

MODELS = ("LinearFusion", "FusionRecommender")


@dataclass(frozen=True)
class Wanted:
    """Which model, and how it is fitted.

    Attributes
    ----------
    model : str
        ``LinearFusion`` or ``FusionRecommender``.
    parameters : mapping
        Of the model.
    training : mapping
        Of ``transformers.TrainingArguments``.
    start : Path or None
        The folder of a LinearFusion.
    """

    model: str = "LinearFusion"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    start: Path | None = None

    def new(self) -> Any:
        """The model, not fitted.

        Raises
        ------
        ValueError
            There is no such model or parameter, or it takes no training.
        """
        if self.model not in MODELS:
            raise ValueError(f"--model must be one of {', '.join(MODELS)}, got {self.model!r}")
        if self.model == "LinearFusion":
            from fusionops.models import LinearFusion  # imports torch
            from fusionops.models.linear_fusion import Parameters

            if self.training or self.start is not None:
                raise ValueError("--train and --start need --model FusionRecommender")
            self._check_names([one.name for one in fields(Parameters)])
            return LinearFusion(**self.parameters)
        from fusionops.models import FusionRecommender, FusionRecommenderConfig

        known = [*inspect.signature(FusionRecommenderConfig.__init__).parameters][1:]
        self._check_names([name for name in known if name not in ("kwargs", "format_version")])
        return FusionRecommender(**self.parameters)

    def arguments(self) -> dict[str, Any]:
        """What ``fit`` takes besides data."""
        if self.model == "LinearFusion":
            return {}
        from fusionops.models import LinearFusion

        start = None if self.start is None else LinearFusion.from_pretrained(self.start)
        return {"arguments": dict(self.training), "start": start}

    def _check_names(self, known: Sequence[str]) -> None:
        for name in self.parameters:
            if name not in known:
                raise ValueError(f"--set knows {', '.join(known)}, got {name!r}")


def run(
    interactions_file: Path,
    items_file: Path | None,
    features_folder: Path | None,
    out: Path,
    columns: InteractionColumns,
    item_columns: ItemColumns,
    wanted: Wanted,
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
    wanted : Wanted
        The model.
    as_json : bool
        Print one JSON object in place of sentences.
    """
    began = time.perf_counter()
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out must be a folder, and {out} is a file")
    model = wanted.new()
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
        with console.collected_warnings(report), console.only_results_on_stdout():
            model.fit(interactions, items, features=features, **wanted.arguments())
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
        f"{out}: {model.name} of {result['users']:,} users and {result['items']:,} items "
        f"(columns: {content}), fitted on {result['rows']:,} rows in {result['seconds']:.1f} s",
        markup=False,
    )
    example = model.users.ids[0]
    screen.print(f"next: fusionops recommend {out} --user {example} -k 10", markup=False)
