"""The commands of the accuracy benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from fusionops.data import load_features

from . import hiding, jobs, questions, report

app = typer.Typer(no_args_is_help=True, add_completion=False)

Features = Annotated[Path, typer.Option(help="Folder of vectors by fusionops encode.")]
Work = Annotated[Path, typer.Option(help="Folder of figures, one file a fit.")]


@app.command()
def export(out: Path = Path("build/items.parquet")) -> None:
    """Write the items of Online Retail as a table, for ``fusionops encode``."""
    items = questions.data()[1]
    out.parent.mkdir(parents=True, exist_ok=True)
    table = {"item": items.ids.ids.tolist(), "description": items.text["description"]}
    pq.write_table(pa.table(table), out)


@app.command()
def run(
    features: Features,
    work: Work = Path("build/accuracy"),
    processes: int = 1,
    only: Annotated[list[str] | None, typer.Option(help="Names of models; repeat.")] = None,
) -> None:
    """Run every model on every protocol; what is in the folder already is kept."""
    work.mkdir(parents=True, exist_ok=True)
    chosen = [job for job in jobs.all_jobs() if only is None or job.model in only]
    failed = jobs.run_all(chosen, features, work, processes)
    raise typer.Exit(bool(failed))


@app.command()
def one(group: str, model: str, seed: int, features: Features, work: Work) -> None:
    """Run one of them; ``run`` starts a process for each."""
    jobs.run(jobs.Job(group, model, seed), load_features(features), work)


@app.command()
def hide(features: Features, work: Work = Path("build/accuracy"), seed: int = 1) -> None:
    """Hide modalities of test items, and see what quality is lost."""
    work.mkdir(parents=True, exist_ok=True)
    hiding.run(load_features(features), work, seed)


@app.command(name="report")
def write_report(work: Work = Path("build/accuracy"), out: Path = Path("docs/accuracy")) -> None:
    """Write the tables from the figures."""
    report.write(work, out)


app()
