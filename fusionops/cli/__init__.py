"""The ``fusionops`` command: quickstart, fit, evaluate, recommend, info.

Nothing heavy is imported before a command needs it, so that ``fusionops --help`` is quick.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the entry point ``fusionops``."""
    from fusionops.cli.errors import EXIT_CODE, missing_library

    try:
        from fusionops.cli.app import app
    except ModuleNotFoundError as error:  # typer or rich itself
        print(f"error: {missing_library(error)}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    app(prog_name="fusionops")
