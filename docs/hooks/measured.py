"""What ``fusionops bench`` measured of one operator, out of its file of results."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
# The operators on a catalogue, and those that fuse profiles, measured in runs of their own.
DATA = tuple(
    ROOT / "docs" / "performance" / name for name in ("results.json", "profiles/results.json")
)


def _bench_report() -> ModuleType:
    """``fusionops.cli.bench_report`` of this checkout, which need not be installed or compiled."""
    file = ROOT / "fusionops" / "cli" / "bench_report.py"
    spec = importlib.util.spec_from_file_location("_docs_bench_report", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


bench_report = _bench_report()


def section(name: str, data: tuple[Path, ...] = DATA) -> str:
    """The tables of an operator in Markdown, or the sentence that there are none."""
    command = f"`fusionops bench {name}`"
    for file in data:
        results = bench_report.Results.from_json(json.loads(file.read_text(encoding="utf-8")))
        timed = {row.operator for row in results.measurements if row.median}
        # One operator may have several suites: "history_fusion, mean".
        suites = [
            operator
            for operator in results.operators
            if operator.name in timed and operator.name.partition(", ")[0] == name
        ]
        if suites:
            report = file.relative_to(ROOT / "docs") if file.is_relative_to(ROOT) else file
            parts = [
                f"Written by {command}; run it on your own machine. "
                f"{bench_report.machine_line(results.machine)} "
                "Ratios are theirs / ours: above 1 means that ours is faster. "
                "[What is measured](../benchmarks.md), "
                f"[all results](../{report.with_name('report.md').as_posix()}), "
                "[what bounds them](../performance.md)."
            ]
            for operator in suites:
                parts += bench_report.operator_parts(results, operator)
            return "\n\n".join(parts)
    return f"Not measured yet: {command} measures it."
