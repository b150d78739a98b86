"""The command of the diversity benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fusionops import info
from fusionops.data import online_retail
from fusionops.files import write_atomically

from . import curve, example, picture, report


def main(
    out: Annotated[Path, typer.Option(help="Folder of report.md and the picture.")],
    work: Annotated[Path, typer.Option(help="Folder of results.json.")] = Path("build/diversity"),
) -> None:
    """Measure the trade-off of accuracy and variety on Online Retail, and report it."""
    interactions, items = online_retail.load()
    found = [curve.measure(interactions, items, protocol) for protocol in curve.PROTOCOLS]
    named = found[0].named.diversify
    customer = example.draw(found[0], items, (0.0, named, example.FAR))
    known = info.report()
    machine = f"{known['processor']}, threads: {known['torch_threads']}, torch {known['torch']}"
    command = f"python -m benchmarks.diversity --out {out}"
    results = report.as_json(found, customer, machine)
    write_atomically(work / "results.json", f"{json.dumps(results, indent=2)}\n".encode())
    write_atomically(out / report.PICTURE, picture.draw(found))
    # The report last: what it refers to is there when it appears.
    text = report.markdown(found, customer, machine, command)
    write_atomically(out / "report.md", text.encode())


typer.run(main)
