"""The comparison as one picture: NDCG with intervals above, coverage below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from fusionops import figures
from fusionops.cli.comparison import OURS, PROTOCOLS, WITHOUT_RECENCY, Outcome, basket_share
from fusionops.evaluation import Evaluation, paired_difference
from fusionops.figures import INK

# After Okabe and Ito, told apart without colour vision; the baselines recede.
COLOURS = {
    "Random": "#d9d9d9",
    "Popularity": "#b0b0b0",
    "ItemKNN": "#56b4e9",
    "EASE": "#e69f00",
    "CarriedEASE": "#cc79a7",
    "SummedCarriedEASE": "#9c4f7c",
    WITHOUT_RECENCY: "#8fc9b5",
    OURS: "#007a5a",
}


def draw(outcomes: Sequence[Outcome], k: int) -> bytes:
    """The picture as the bytes of a PNG file.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Any of the protocols; each becomes a column.
    k : int
        The cut, for the labels.
    """
    columns = {
        name: found
        for name in PROTOCOLS
        if (found := [outcome for outcome in outcomes if outcome.question.protocol == name])
    }
    figure = figures.new(2.2 + 1.25 * len(outcomes), 5.4)
    grid = figure.subplots(
        2,
        len(columns),
        squeeze=False,
        sharey="row",
        sharex="col",
        width_ratios=[max(1.2, len(found)) for found in columns.values()],
        height_ratios=[3, 2],
    )
    for column, (name, found) in enumerate(columns.items()):
        accuracy, coverage = grid[:, column]
        accuracy.set_title(name.replace("_", " "), fontsize=11, color=INK)
        _bars(accuracy, found, "ndcg", intervals=True)
        _bars(coverage, found, "coverage", intervals=False)
    grid[0, 0].set_ylabel(f"NDCG@{k}, 95 % interval", color=INK)
    grid[1, 0].set_ylabel(f"coverage@{k}", color=INK)
    shown = [name for name in COLOURS if any(name in outcome.evaluations for outcome in outcomes)]
    figure.legend(
        handles=[Patch(color=COLOURS[name], label=name) for name in shown],
        loc="outside upper center",
        ncols=len(shown),
        frameon=False,
        fontsize=9,
    )
    return figures.png(figure)


def _bars(axes: Axes, outcomes: Sequence[Outcome], metric: str, *, intervals: bool) -> None:
    for place, outcome in enumerate(outcomes):
        names = [name for name in COLOURS if name in outcome.evaluations]
        width = 0.84 / len(names)
        for number, name in enumerate(names):
            one = outcome.evaluations[name]
            axes.bar(
                place + (number - (len(names) - 1) / 2) * width,
                one[metric],
                width * 0.92,
                color=COLOURS[name],
                yerr=_whiskers(one, metric) if intervals else None,
                error_kw={"elinewidth": 0.9, "ecolor": INK},
            )
    ticks = [_tick(outcome) for outcome in outcomes]
    axes.set_xticks(range(len(outcomes)), ticks, fontsize=9, color=INK)
    axes.tick_params(axis="x", length=0)
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    figures.recede(axes, "y")


def _tick(outcome: Outcome) -> str:
    if outcome.question.protocol == "warm":
        share = basket_share(outcome.question)
        return "" if share is None else f"{share:.0%} of it\nbasket completion"
    return outcome.question.date or ""


def _whiskers(one: Evaluation, metric: str) -> list[list[float]] | None:
    """The 95 % bootstrap interval of a mean, as lengths below and above it."""
    values = one.per_user[metric]
    if len(values) < 2:
        return None
    found = paired_difference(values, np.zeros_like(values))
    return [[found.mean - found.low], [found.high - found.mean]]
