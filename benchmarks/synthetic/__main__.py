"""The commands of the benchmark on synthetic data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)

Work = Annotated[Path, typer.Option("--out", help="Folder of figures, one file a job.")]


@app.command()
def run(
    work: Work = Path("build/synthetic"),
    processes: int = 2,
    only: Annotated[list[str] | None, typer.Option(help="Names of contenders; repeat.")] = None,
) -> None:
    """Run every contender on every question; what is in the folder already is kept."""
    from . import jobs

    work.mkdir(parents=True, exist_ok=True)
    chosen = [job for job in jobs.all_jobs() if only is None or job.contender in only]
    jobs.run_all(chosen, work, processes)


@app.command()
def planted(work: Work = Path("build/synthetic")) -> None:
    """See whether explanations name the planted modality, by models as a run has chosen them."""
    from . import planted as explanations

    explanations.run(work)


@app.command()
def report(work: Work = Path("build/synthetic"), docs: Path = Path("docs/synthetic")) -> None:
    """Write the tables from the figures."""
    from . import report as tables

    tables.write(work, docs)


if __name__ == "__main__":  # the processes of a run import this module, too
    app()
