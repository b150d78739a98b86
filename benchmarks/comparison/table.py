"""What was measured, as one table an operator and as a JSON file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.cases import CONTENDERS, DIRECTIONS, OURS, Case, Shape

WIDTH = 9  # of a column


@dataclass
class Measurement:
    """One contender at one shape; None with a reason where there is nothing to say."""

    operator: str
    case: Case
    median: float | None = None
    minimum: float | None = None
    spread: float | None = None
    rounds: int = 0
    peak: int | None = None
    reason: str | None = None


def render(operator: str, title: str, rows: Iterable[Measurement]) -> str:
    """The table of one operator, with the reasons of its gaps below it."""
    rows = list(rows)
    names = [contender.removeprefix("torch.") for contender in CONTENDERS]
    groups = ("median ms", *names), ("theirs / ours", *names[1:]), ("peak extra MiB", *names)
    above, below = " " * 26, f"{'U x P x D':26}"
    for name, *columns in groups:
        above += f" | {name:<{len(columns) * (WIDTH + 1) - 1}}"
        below += " | " + " ".join(f"{column:>{WIDTH}}" for column in columns)
    lines = [f"{operator}: {title}", above.rstrip(), below]
    for direction in DIRECTIONS:
        chosen = [row for row in rows if row.case.direction == direction]
        if chosen:
            lines.append(f"  {direction}")
        for shape in dict.fromkeys(row.case.shape for row in chosen):
            lines.append(_line(shape, [row for row in chosen if row.case.shape == shape]))
    return "\n".join([*lines, *_reasons(rows)])


def _line(shape: Shape, rows: list[Measurement]) -> str:
    found = {row.case.contender: row for row in rows}
    absent = Measurement("", rows[0].case)
    row = [found.get(contender, absent) for contender in CONTENDERS]
    ours = found.get(OURS, absent).median
    times = [_cell(None if r.median is None else r.median * 1e3, ".2f") for r in row]
    ratios = [_cell(ratio(r.median, ours), ".2f") for r in row[1:]]
    peaks = [_cell(None if r.peak is None else r.peak / 2**20, ".1f") for r in row]
    groups = " | ".join(" ".join(cells) for cells in (times, ratios, peaks))
    return f"    {shape!s:22} | {groups}"


def _cell(value: float | None, form: str) -> str:
    return f"{'-' if value is None else format(value, ',' + form):>{WIDTH}}"


def _reasons(rows: list[Measurement]) -> list[str]:
    lines: dict[str, list[str]] = {}
    for row in rows:
        if row.reason is not None:
            place = f"{row.case.contender}, {row.case.direction}"
            lines.setdefault(f"{place}: {row.reason}", []).append(str(row.case.shape))
    return [f"  - {reason} ({'; '.join(shapes)})" for reason, shapes in lines.items()]


def ratio(theirs: float | None, ours: float | None) -> float | None:
    """How many times longer theirs takes, where both are known."""
    return None if theirs is None or ours is None else theirs / ours


def write_report(path: Path, machine: dict[str, Any], rows: list[Measurement]) -> None:
    """The measurements and the machine as JSON, by a temporary name and a rename."""
    ours = {
        (r.operator, r.case.shape, r.case.direction): r.median
        for r in rows
        if r.case.contender == OURS
    }
    results = [
        {
            "operator": row.operator,
            **row.case.shape._asdict(),
            "direction": row.case.direction,
            "contender": row.case.contender,
            "median_seconds": row.median,
            "minimum_seconds": row.minimum,
            "interquartile_range_seconds": row.spread,
            "rounds": row.rounds,
            "ratio_to_ours": ratio(
                row.median, ours.get((row.operator, row.case.shape, row.case.direction))
            ),
            "peak_extra_bytes": row.peak,
            "reason": row.reason,
        }
        for row in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "results": results}, file, indent=2)
            file.write("\n")
        os.chmod(temporary, 0o644)  # mkstemp's 0600 is meant for secrets
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
