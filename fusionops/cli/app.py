"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusionops.cli.errors import sentences

app = typer.Typer(
    help="Fused user-item operators for PyTorch, and a recommender made of them.",
    epilog="FUSIONOPS_DEBUG=1 shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the results.")] = Path(
        "quickstart"
    ),
    as_json: Json = False,
) -> None:
    """Clean, split, fit, evaluate and recommend on the Online Retail data of the package."""
    with sentences():
        from fusionops.cli.quickstart import run

        run(out, as_json=as_json)


@app.command()
def info(as_json: Json = False) -> None:
    """Describe this installation, to be pasted into a bug report."""
    with sentences():
        from fusionops.info import render, report

        if as_json:
            from fusionops.cli.console import print_json

            print_json(report())
        else:
            typer.echo(render(report()))
