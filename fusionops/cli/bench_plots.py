"""Time against size and the share of the bound, as PNG."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from fusionops import figures
from fusionops.cli.bench_report import Measurement, Operator, Results, growth_title
from fusionops.figures import INK

# After Okabe and Ito, told apart without colour vision: ours are green and blue, thick.
OURS = ("#007a5a", "#0072b2", "#56b4e9")
THEIRS = ("#d55e00", "#e69f00", "#cc79a7", "#888888", "#222222")
BOUNDS = {"memory": "#e69f00"}


def growth(results: Results) -> bytes | None:
    """Time against the size that grows, log-log, a panel an operator; None without such rows."""
    panels = [
        (operator, rows)
        for operator in results.operators
        if (rows := results.of(operator, growth=True))
    ]
    if not panels:
        return None
    columns = min(3, len(panels))
    figure = figures.new(4.6 * columns, 3.9 * -(-len(panels) // columns), dpi=130)
    for place, (operator, rows) in enumerate(panels):
        axes = figure.add_subplot(-(-len(panels) // columns), columns, place + 1)
        axes.set_title(
            f"{operator.name}\n{growth_title(operator, rows).partition(', ')[2]}", fontsize=9
        )
        _lines(axes, operator, rows)
    return figures.png(figure)


def _lines(axes: Axes, operator: Operator, rows: Sequence[Measurement]) -> None:
    theirs = iter(THEIRS)
    for name in dict.fromkeys(row.contender for row in rows):
        points = [
            (operator.grown(row), row.median * 1e3)
            for row in rows
            if row.contender == name and row.median is not None
        ]
        ours = name in operator.ours
        colour = OURS[operator.ours.index(name) % len(OURS)] if ours else next(theirs, INK)
        if points:
            axes.loglog(
                *zip(*sorted(points), strict=True),
                marker="o",
                markersize=3.5,
                linewidth=2.2 if ours else 1.2,
                color=colour,
                label=name,
            )
    sizes = sorted({operator.grown(row) for row in rows})
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("items P" if operator.grows == "P" else operator.grows, fontsize=9, color=INK)
    axes.set_ylabel("median ms", fontsize=9, color=INK)
    axes.grid(which="major", color=figures.GRID, linewidth=0.8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False)


def _short(size: int) -> str:
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return str(size)


def shares(results: Results) -> bytes | None:
    """The share of the bound that each of our calls reaches; None where no bound is known."""
    rows = [row for row in results.measurements if not row.growth and row.share is not None]
    if not rows:
        return None
    figure = figures.new(9.0, 1.1 + 0.24 * len(rows), dpi=130)
    axes = figure.add_subplot()
    for place, row in enumerate(reversed(rows)):
        share = 100 * (row.share or 0.0)
        axes.barh(place, share, color=BOUNDS.get(row.bound_by or "", OURS[0]), height=0.72)
        axes.text(share + 1, place, f"{share:.0f} %", va="center", fontsize=7, color=INK)
    axes.set_yticks(range(len(rows)), [_label(row) for row in reversed(rows)], fontsize=7)
    axes.axvline(100, color=INK, linewidth=0.8)
    axes.set_xlabel(
        "% of the bound: green arithmetic at the measured peak, orange memory bandwidth",
        fontsize=8,
        color=INK,
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.tick_params(axis="y", length=0)
    figures.open_frame(axes)
    return figures.png(figure)


def _label(row: Measurement) -> str:
    name = row.operator if row.contender == "fusionops" else f"{row.operator} {row.contender}"
    return f"{name}, {row.size}, {row.direction}"
