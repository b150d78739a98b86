"""The commands of the faithfulness benchmark."""

from __future__ import annotations

import json
import time
from pathlib import Path

import typer

from fusionops.files import write_atomically

from . import report
from .cases import CASES, MODELS
from .measuring import questions

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def run(out: Path = Path("build/faithfulness")) -> None:
    """Fit every model on every data set and measure its explanations: a file for each."""
    out.mkdir(parents=True, exist_ok=True)
    for data, make in CASES.items():
        case = make()
        for model, fit in MODELS.items():
            began = time.perf_counter()
            fitted = fit(case)
            ready = time.perf_counter()
            asked = questions(fitted, case.users())
            record = {"data": data, "model": model, "questions": asked}
            file = out / f"{_file(data)}.{_file(model)}.json"
            write_atomically(file, json.dumps(record).encode())
            print(
                f"{data}, {model}: fitted in {ready - began:.0f} s, {len(asked)} questions in "
                f"{time.perf_counter() - ready:.0f} s",
                flush=True,
            )


@app.command(name="report")
def write_report(
    work: Path = Path("build/faithfulness"), out: Path = Path("docs/faithfulness")
) -> None:
    """Write the tables and the picture from the figures."""
    report.write(work, out)


def _file(name: str) -> str:
    return name.lower().replace(", ", "-").replace(" ", "-")


app()
