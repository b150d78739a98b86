"""The trade-off as one picture: what NDCG costs, against three kinds of variety."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from fusionops import figures
from fusionops.figures import INK

from .curve import AT_MOST, Point, TradeOff

_PANELS = (
    ("text_diversity", "variety within a list\n(1 - cosine of the texts)"),
    ("coverage", "coverage\n(share of the catalogue that is shown)"),
    ("gini", "Gini of showings, turned round\n(to the right more even)"),
)
# After Okabe and Ito, told apart without colour vision, and by their lightness too.
_CURVE, _NAMED, _LINE = "#0072b2", "#d55e00", "#8a5a00"
_INTERVAL = "#9cc7e3"
_LABELLED = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
_TICKS = (0, -1, -2, -5, -10, -20, -50)


def draw(found: Sequence[TradeOff]) -> bytes:
    """The picture as the bytes of a PNG file, a row of panels a question."""
    figure = figures.new(11.0, 0.6 + 3.5 * len(found))
    grid = figure.subplots(len(found), len(_PANELS), squeeze=False, sharey=True)
    for row, one in zip(grid, found, strict=True):
        for axes, (metric, _) in zip(row, _PANELS, strict=True):
            # Once a row: the other panels show the same changes.
            _panel(axes, one, metric, intervals=axes is row[0])
        row[0].set_ylabel("change of NDCG, 95 % interval\n(scale tighter below -2 %)", color=INK)
        row[0].set_title(one.question.label, loc="left", fontweight="bold", color=INK)
    for axes, (_, title) in zip(grid[-1], _PANELS, strict=True):
        axes.set_xlabel(title, fontsize=10, color=INK)
    figure.legend(
        handles=[
            Line2D([], [], color=_CURVE, marker="o", markersize=4, label="diversify from 0 to 1"),
            Line2D([], [], color=_NAMED, marker="D", markersize=8, linestyle="", label="the point"),
            Line2D([], [], color=_LINE, linestyle="--", label=f"{100 * AT_MOST:g} % of NDCG lost"),
        ],
        loc="outside upper center",
        ncols=3,
        frameon=False,
        fontsize=10,
    )
    return figures.png(figure)


def _panel(axes: Axes, found: TradeOff, metric: str, *, intervals: bool) -> None:
    values = [point.figures[metric] for point in found.points]
    changes = [100 * point.change.mean for point in found.points]
    # The first percents matter most, and the last points lie forty below them.
    axes.set_yscale("symlog", linthresh=2, linscale=1.4)
    axes.axhline(-100 * AT_MOST, color=_LINE, linestyle="--", linewidth=1.2)
    if intervals:
        low = [100 * point.change.low for point in found.points]
        high = [100 * point.change.high for point in found.points]
        axes.vlines(values, low, high, color=_INTERVAL, linewidth=1.0)
    axes.plot(values, changes, color=_CURVE, linewidth=1.6, marker="o", markersize=3.5)
    named = found.named
    axes.plot(
        named.figures[metric], 100 * named.change.mean, "D", color=_NAMED, markersize=9, zorder=4
    )
    _labels(axes, found, metric)
    _dress(axes)
    if metric == "gini":
        axes.invert_xaxis()


def _labels(axes: Axes, found: TradeOff, metric: str) -> None:
    """Some settings beside their points; the named one as it stands in every panel."""
    for before, point in pairwise((found.points[0], *found.points)):
        style = {"color": INK, "fontsize": 9}
        if point is found.named:
            style = {"color": _NAMED, "fontsize": 11, "fontweight": "bold"}
        elif point.diversify not in _LABELLED:
            continue
        offset, side = _free_side(before, point, metric, named=point is found.named)
        axes.annotate(
            f"{point.diversify:g}",
            (point.figures[metric], 100 * point.change.mean),
            xytext=offset,
            ha=side,
            textcoords="offset points",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=5,
            **style,
        )


def _free_side(
    before: Point, point: Point, metric: str, *, named: bool
) -> tuple[tuple[int, int], str]:
    """Where a label does not lie on the curve, which falls, and may go back before it goes on."""
    moved = point.figures[metric] - before.figures[metric]
    back = moved > 0 if metric == "gini" else moved < 0
    if named and metric != "text_diversity":
        return (-9, -4), "right"
    if named and point.change.mean > before.change.mean:
        return (-2, 9), "center"
    return ((-7, 3), "right") if back else ((7, 5), "left")


def _dress(axes: Axes) -> None:
    axes.set_yticks(_TICKS, [f"{tick} %" for tick in _TICKS])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.margins(x=0.12)
    figures.recede(axes)
