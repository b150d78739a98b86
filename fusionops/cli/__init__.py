"""The ``fusionops`` command: quickstart, encode, fit, evaluate, recommend, bench, info.

Nothing heavy is imported before a command needs it, so that ``fusionops --help`` is quick.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; the entry point ``fusionops``."""
    # Waiting threads of OpenMP spin by default: where other programs run, that multiplies the time
    # of a fit. Asleep they cost nothing measurable. To be set before the libraries are loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from fusionops.cli.errors import EXIT_CODE, missing_library

    try:
        from fusionops.cli.app import app
    except ModuleNotFoundError as error:  # typer or rich itself
        print(f"error: {missing_library(error)}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    app(prog_name="fusionops")
