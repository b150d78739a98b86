"""An explanation as a picture: a bar for each part, the history above, the modalities below."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes

from fusionops import figures
from fusionops.figures import INK
from fusionops.models.explanation.explanation import CONTRIBUTIONS, Explanation
from fusionops.models.explanation.words import phrase

# After Okabe and Ito, told apart without colour vision: what speaks for the item, and against it.
_FOR, _AGAINST, _REST = "#007a5a", "#d55e00", "#b0b0b0"

Bars = list[tuple[str, float, bool]]


def draw(explanation: Explanation, most: int) -> bytes:
    """The picture as the bytes of a PNG file."""
    contributions = explanation.method == CONTRIBUTIONS
    panels = [
        (title, bars)
        for title, bars in (
            ("What the user had", _history(explanation, most, rest=contributions)),
            ("What is known of the item", _modalities(explanation)),
        )
        if bars
    ]
    heights = [max(1, len(bars)) for _, bars in panels] or [1]
    figure = figures.new(8, 1.4 + 0.34 * sum(heights))
    figure.suptitle(_title(explanation), fontsize=11, color=INK)
    grid = figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)
    for axes, (title, bars) in zip(grid[:, 0], panels, strict=False):
        _bars(axes, title, bars)
    grid[-1, 0].set_xlabel(
        "part of the score" if contributions else "score lost without it", color=INK, fontsize=9
    )
    return figures.png(figure)


def _title(explanation: Explanation) -> str:
    place = "" if explanation.rank is None else f"number {explanation.rank}, "
    # A dollar sign would begin a formula.
    label = _plain(short(explanation.label, 60))
    return f"{label}\n{place}score {explanation.score:.3g}"


def _history(explanation: Explanation, most: int, *, rest: bool) -> Bars:
    """The parts of the largest size, and what the others add up to where they do add up."""
    known = [part for part in explanation.history if not math.isnan(part.effect)]
    shown = sorted(known, key=lambda part: -abs(part.effect))[:most]
    bars = [(part.label, part.effect, False) for part in known if part in shown]
    others = [part.effect for part in known if part not in shown]
    if others and rest:
        bars.append((f"{len(others)} others", sum(others), True))
    return bars


def _modalities(explanation: Explanation) -> Bars:
    bars = [(phrase(part.id), part.effect, False) for part in explanation.modalities]
    if explanation.baseline:
        bars.append(("what any new item gets", explanation.baseline, True))
    return bars


def _bars(axes: Axes, title: str, bars: Sequence[tuple[str, float, bool]]) -> None:
    places = range(len(bars))
    axes.barh(
        places,
        [effect for _, effect, _ in bars],
        color=[_REST if rest else _FOR if effect >= 0 else _AGAINST for _, effect, rest in bars],
        height=0.72,
    )
    labels = [_plain(short(label, 44)) for label, _, _ in bars]
    axes.set_yticks(places, labels, fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    figures.recede(axes, "x")


def short(text: str, width: int) -> str:
    """A text on one line, cut where it is longer, between words if that leaves some."""
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    whole_words = textwrap.shorten(line, width, placeholder="…")
    return whole_words if len(whole_words) > 1 else f"{line[: width - 1]}…"


def _plain(text: str) -> str:
    return text.replace("$", r"\$")
