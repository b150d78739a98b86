"""What the benchmark suites measured, as tables.

The suites of ``benchmarks/`` print them as plain text and write the measurements as JSON;
``fusionops bench`` makes a report in Markdown of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

NOTHING = "-"


@dataclass
class Measurement:
    """One contender at one size; None where there is nothing to say, with a reason."""

    operator: str
    shape: list[int]
    """Sizes along the axes of the operator."""
    direction: str
    contender: str
    growth: bool = False
    """Whether it belongs to the plot of time against size, not to the comparison."""
    median: float | None = None
    minimum: float | None = None
    spread: float | None = None
    rounds: int = 0
    peak_bytes: int | None = None
    bound: float | None = None
    """Seconds that the call takes at least on this machine; for ours only."""
    bound_by: str | None = None
    reason: str | None = None

    @property
    def size(self) -> str:
        """The sizes as one word."""
        return " x ".join(f"{size:,}" for size in self.shape)

    @property
    def share(self) -> float | None:
        """Of the bound that the median reaches."""
        return None if self.bound is None or not self.median else self.bound / self.median


@dataclass
class Operator:
    """A suite: its name, what it computed, which contenders are ours, and its axes.

    Of several suites for one operator each has a variant in its name: ``"history_fusion, mean"``.
    """

    name: str
    title: str
    ours: list[str]
    axes: list[str]
    grows: str
    """Which of the axes is doubled for time against size."""

    def grown(self, row: Measurement) -> int:
        """The size along that axis."""
        return row.shape[self.axes.index(self.grows)]


@dataclass
class Results:
    """One run of the suites."""

    machine: dict[str, Any]
    rates: dict[str, Any]
    operators: list[Operator] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)

    def of(self, operator: Operator, *, growth: bool) -> list[Measurement]:
        """The measurements of an operator, for the comparison or for the plot of growth."""
        return [
            row
            for row in self.measurements
            if row.operator == operator.name and row.growth == growth
        ]

    def as_json(self) -> dict[str, Any]:
        """The same as dictionaries and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Results:
        """What :meth:`as_json` gave."""
        return cls(
            value["machine"],
            value["rates"],
            [Operator(**one) for one in value["operators"]],
            [Measurement(**one) for one in value["measurements"]],
        )


@dataclass
class Table:
    """Rows of cells under a header; the first `texts` columns are words, the rest numbers."""

    header: list[str]
    rows: list[list[str]]
    texts: int = 1

    def text(self, indent: str = "  ") -> str:
        """Aligned by spaces."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        return "\n".join(
            indent
            + "  ".join(
                f"{cell:<{width}}" if column < self.texts else f"{cell:>{width}}"
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """As GitHub writes tables."""
        marks = ["---" if column < self.texts else "---:" for column in range(len(self.header))]
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.header, marks, *self.rows))


def comparison_table(operator: Operator, rows: Sequence[Measurement]) -> Table:
    """Who took part, at every size: time, ratio to ours, memory, share of the bound."""
    rows = [row for row in rows if row.median is not None]  # the others are in gaps()
    against = [f"/ {name}" for name in operator.ours]
    header = [
        " x ".join(operator.axes),
        "pass",
        "contender",
        "median ms",
        "min ms",
        *against,
        "extra MiB",
    ]
    lines = []
    last: tuple[str, str] | None = None
    for row in rows:
        group = [one for one in rows if (one.size, one.direction) == (row.size, row.direction)]
        medians = {one.contender: one.median for one in group}
        ratios = [ratio(row.median, medians.get(name)) for name in operator.ours]
        place = (row.size, row.direction)
        lines.append(
            [
                *(place if place != last else ("", "")),
                row.contender,
                _scaled(row.median, 1e3, ".2f"),
                _scaled(row.minimum, 1e3, ".2f"),
                *(_scaled(one, 1, ".2f") for one in ratios),
                _scaled(row.peak_bytes, 2**-20, ".1f"),
                _scaled(row.share, 100, ".0f"),
                row.bound_by or "",
            ]
        )
        last = place
    return Table([*header, "% of bound", "bound"], lines, texts=3)


def growth_table(operator: Operator, rows: Sequence[Measurement]) -> Table:
    """Time against size, and what the time of ours is multiplied by when the size doubles."""
    names = list(dict.fromkeys(row.contender for row in rows))
    medians = {(operator.grown(row), row.contender): row.median for row in rows}
    sizes = sorted({operator.grown(row) for row in rows})
    axis = operator.grows
    factors = [f"{name}: time({axis}) / time({axis}/2)" for name in operator.ours]
    lines = [
        [
            f"{size:,}",
            *(_scaled(medians.get((size, name)), 1e3, ".2f") for name in names),
            *(
                _scaled(ratio(medians.get((size, name)), medians.get((size // 2, name))), 1, ".2f")
                for name in operator.ours
            ),
        ]
        for size in sizes
    ]
    return Table([axis, *(f"{name} ms" for name in names), *factors], lines)


def rates_table(rates: dict[str, Any]) -> Table:
    """The machine's own peaks, and what the score tile reaches of them."""
    tile = rates["score_tile_operations_per_second"]
    depths = list(next(iter(tile.values())))
    lines = []
    for kind, peak in rates["operations_per_second"].items():
        shares = [f"{100 * tile[kind][depth] / peak:.0f} %" for depth in depths]
        lines.append([kind, f"{peak / 1e9:,.0f}", *shares])
    header = ["arithmetic", "peak GFLOP/s", *(f"score tile, D {depth}" for depth in depths)]
    return Table(header, lines)


def memory_line(rates: dict[str, Any]) -> str:
    """The measured bandwidths as a sentence."""
    found = ", ".join(
        f"{name} {rate / 1e9:.1f} GB/s" for name, rate in rates["memory_bytes_per_second"].items()
    )
    return f"Memory: {found}."


def machine_line(machine: dict[str, Any]) -> str:
    """Who ran it."""
    if "gpu" in machine:
        return (
            f"{machine['gpu']}, torch {machine['torch']}, CUDA {machine['cuda']}, "
            f"fusionops {machine['fusionops']}."
        )
    return (
        f"{machine['processor']}, {machine['torch_threads']} threads, torch {machine['torch']}, "
        f"kernels {machine['native']['isa']} ({machine['native']['compiler']}), "
        f"fusionops {machine['fusionops']}."
    )


def gaps(rows: Iterable[Measurement]) -> list[str]:
    """Why something is missing from a table, a line a reason."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.reason is not None:
            found.setdefault(f"{row.contender}: {row.reason}", []).append(row.size)
    return [f"{reason} ({'; '.join(dict.fromkeys(sizes))})" for reason, sizes in found.items()]


def ratio(theirs: float | None, ours: float | None) -> float | None:
    """How many times longer theirs takes, where both are known."""
    return None if theirs is None or not ours else theirs / ours


def _any_timed(rows: Iterable[Measurement]) -> bool:
    return any(row.median is not None for row in rows)


def _scaled(value: float | None, factor: float, form: str) -> str:
    return NOTHING if value is None else format(value * factor, f",{form}")


def terminal(results: Results) -> str:
    """All of it for a terminal."""
    parts = [machine_line(results.machine)]
    if results.rates:
        parts += [memory_line(results.rates), rates_table(results.rates).text()]
    parts.append("Ratios are theirs / ours: above 1 means that ours is faster.")
    for operator in results.operators:
        rows, growth = (results.of(operator, growth=which) for which in (False, True))
        parts.append(f"\n{operator.name}: {operator.title}")
        if _any_timed(rows):
            parts.append(comparison_table(operator, rows).text())
        if _any_timed(growth):
            parts.append(f"  {growth_title(operator, growth)}")
            parts.append(growth_table(operator, growth).text())
        parts += [f"  - {gap}" for gap in gaps([*rows, *growth])]
    return "\n".join(parts)


def markdown(results: Results, command: str, pictures: Sequence[tuple[str, str]]) -> str:
    """The report: `pictures` are pairs of a caption and a file beside it."""
    parts = [
        "# Benchmark report",
        f"Written by `{command}`; run it on your own machine. {machine_line(results.machine)} "
        "Everything float32 unless it says otherwise; contenders take turns, so compare ratios. "
        "What is measured and how to read it: benchmarks/README.md; why each bound is what it is: "
        "docs/performance.md.",
    ]
    if results.rates:
        rates = rates_table(results.rates).markdown()
        parts += ["## The machine", memory_line(results.rates), rates]
    parts += [f"![{caption}]({file})" for caption, file in pictures]
    for operator in results.operators:
        parts += [f"## {operator.name}", *operator_parts(results, operator)]
    return "\n\n".join(parts) + "\n"


def operator_parts(results: Results, operator: Operator) -> list[str]:
    """Paragraphs of Markdown on one operator: what it is, its tables, what is missing in them."""
    rows, growth = (results.of(operator, growth=which) for which in (False, True))
    parts = [f"{operator.title[:1].upper()}{operator.title[1:]}."]
    if _any_timed(rows):
        parts.append(comparison_table(operator, rows).markdown())
    if _any_timed(growth):
        parts += [f"{growth_title(operator, growth)}:", growth_table(operator, growth).markdown()]
    if missing := gaps([*rows, *growth]):
        parts.append("\n".join(f"* {gap}" for gap in missing))
    return parts


def growth_title(operator: Operator, rows: Sequence[Measurement]) -> str:
    """What a plot of growth holds still, and what grows along."""
    words = ["Time against size", rows[0].direction]
    for place, axis in enumerate(operator.axes):
        sizes = {row.shape[place] for row in rows}
        if axis == operator.grows:
            continue
        if len(sizes) == 1:
            words.append(f"{axis} {sizes.pop():,}")
        elif all(row.shape[place] == operator.grown(row) for row in rows):
            words.append(f"{axis} = {operator.grows}")
    return ", ".join(words)
