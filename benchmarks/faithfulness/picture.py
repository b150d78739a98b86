"""The curves as one picture: deletion above, insertion below, a column for each model and data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from fusionops import figures
from fusionops.figures import INK

from .measuring import GRADIENT, OURS, RANDOM

if TYPE_CHECKING:
    from .report import Panel

# After Okabe and Ito, as in the picture of the comparison; the baseline recedes.
STYLES = {
    RANDOM: {"color": "#b0b0b0", "linewidth": 2.0},
    GRADIENT: {"color": "#e69f00", "linewidth": 2.0},
    OURS: {"color": "#007a5a", "linewidth": 1.6, "linestyle": (0, (5, 1.5))},
}
_GRID = np.linspace(0, 1, 101)

Values = npt.NDArray[np.float64]


def draw(panels: Sequence[Panel]) -> bytes:
    """The picture as the bytes of a PNG file."""
    figure = figures.new(1 + 2.3 * len(panels), 5.6, dpi=120)
    grid = figure.subplots(2, len(panels), squeeze=False, sharey="row", sharex=True)
    for column, panel in enumerate(panels):
        title = f"{panel.data}\n{panel.model.replace(', ', ',' + chr(10))}"
        grid[0, column].set_title(title, fontsize=9, color=INK)
        for axes, name in zip(grid[:, column], ("deletion", "insertion"), strict=True):
            for method, style in STYLES.items():
                axes.plot(_GRID, mean_curve(panel, method, name), label=method, **style)
            _dress(axes)
        grid[1, column].set_xlabel("share of the history", fontsize=9, color=INK)
    grid[0, 0].set_ylabel("score left, deletion", color=INK)
    grid[1, 0].set_ylabel("score reached, insertion", color=INK)
    lines, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        lines[::-1],
        names[::-1],
        loc="outside upper center",
        ncols=len(names),
        frameon=False,
        fontsize=9,
    )
    return figures.png(figure)


def mean_curve(panel: Panel, method: str, name: str) -> Values:
    """The mean over users of the curves, at 101 shares of the history."""
    users, user = np.unique(panel.users, return_inverse=True)
    total, count = np.zeros((len(users), len(_GRID))), np.zeros(len(users))
    for row, curves in zip(user, panel.curves, strict=True):
        curve = getattr(curves[method], name)
        if np.isnan(curve).any():
            continue
        total[row] += np.interp(_GRID, np.linspace(0, 1, len(curve)), curve)
        count[row] += 1
    mean: Values = (total[count > 0] / count[count > 0, None]).mean(axis=0)
    return mean


def _dress(axes: Axes) -> None:
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    figures.recede(axes)
