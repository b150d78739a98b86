"""What the pictures of the package and of its benchmarks have in common."""

from __future__ import annotations

import io
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#333333"
"""Of what is written."""

GRID = "#e6e6e6"


def new(width: float, height: float, dpi: int = 150) -> Figure:
    """An empty figure of a size in inches, which no window knows."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def recede(axes: Axes, lines: Literal["both", "x", "y"] = "both") -> None:
    """Axes behind what they measure: pale lines of one or both directions, no box."""
    axes.grid(axis=lines, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    open_frame(axes)


def open_frame(axes: Axes) -> None:
    """Only the line at the bottom."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
