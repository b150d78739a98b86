"""Bytes and operations of every operator and of eager PyTorch, and what GPUs need for them.

``python benchmarks/roofline.py`` writes ``docs/performance/roofline.md``, where the assumptions
stand, and the same as JSON beside it. Nothing is run: the calls of the benchmark suites are counted
on fake tensors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from counting.occupancy import occupancy
from counting.page import data_of, render
from counting.suites import counted

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "performance"
COMMAND = "python benchmarks/roofline.py"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the page and the data")
    parser.add_argument(
        "--keep-occupancy",
        action="store_true",
        help="take it from the data that is there, instead of compiling all kernels, for minutes",
    )
    options = parser.parse_args()
    file = options.out / "roofline.json"
    data = data_of(counted())
    if options.keep_occupancy:
        data["occupancy"] = json.loads(file.read_text(encoding="utf-8"))["occupancy"]
    else:
        data["occupancy"] = occupancy()
    file.write_text(_text(data), encoding="utf-8")
    (options.out / "roofline.md").write_text(render(data, COMMAND), encoding="utf-8")


def _text(data: dict[str, Any]) -> str:
    """JSON, an item of each list on a line of its own."""
    parts = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(item) for item in items) + "\n]"
        for name, items in data.items()
    ]
    return "{" + ",\n".join(parts) + "}\n"


if __name__ == "__main__":
    main()
