"""``python -m fusionops.cli``, the same as ``fusionops``."""

from fusionops.cli import main

main()
