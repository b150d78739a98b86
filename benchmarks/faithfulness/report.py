"""The figures as Markdown with paired intervals, and the curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusionops.evaluation import Difference
from fusionops.evaluation.faithfulness import Curves, Faithfulness, compare
from fusionops.files import write_atomically

from . import picture
from .cases import CASES, DIM, LONGEST, MODELS, SHORTEST
from .measuring import DRAWS, GRADIENT, LISTED, OURS, RANDOM

METHODS = (OURS, GRADIENT, RANDOM)


@dataclass(frozen=True)
class Panel:
    """One model on one data set.

    Attributes
    ----------
    users : list of int
        Who asked each question.
    curves : list of dict of str to Curves
        By method, of each question.
    history : float
        The mean length of a history.
    apart : list of float
        How far gradient x input is from ours in each question.
    """

    data: str
    model: str
    users: list[int]
    curves: list[dict[str, Curves]]
    history: float
    apart: list[float]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Panel:
        """Read what ``run`` wrote."""
        asked = record["questions"]
        return cls(
            record["data"],
            record["model"],
            [one["user"] for one in asked],
            [
                {
                    name: Curves(np.array(part["deletion"]), np.array(part["insertion"]))
                    for name, part in one["curves"].items()
                }
                for one in asked
            ],
            float(np.mean([one["history"] for one in asked])),
            [one["apart"] for one in asked],
        )

    def against(self, method: str) -> dict[str, Faithfulness]:
        """All methods compared with one."""
        return compare(self.users, self.curves, method)


def write(work: Path, out: Path) -> None:
    """Write ``report.md`` and ``curves.png``."""
    records = [json.loads(file.read_bytes()) for file in sorted(work.glob("*.json"))]
    place = {name: number for number, name in enumerate([*CASES, *MODELS])}
    panels = sorted(map(Panel.of, records), key=lambda one: (place[one.data], place[one.model]))
    if not panels:
        raise FileNotFoundError(f"{work}: expected the files of `run`, got none")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "report.md", ("\n".join(_lines(panels)) + "\n").encode())
    write_atomically(out / "curves.png", picture.draw(panels))


def _lines(panels: Sequence[Panel]) -> Iterator[str]:
    yield from [*_HEAD, "", "## In short", ""]
    yield from _verdict(panels)
    for data in dict.fromkeys(panel.data for panel in panels):
        of_data = [panel for panel in panels if panel.data == data]
        users, questions = len(set(of_data[0].users)), len(of_data[0].users)
        yield from ["", f"## {data}", ""]
        yield f"{users} users, {questions} questions a model, histories of"
        yield f"{of_data[0].history:.0f} items in the mean."
        yield ""
        yield from _against_random(of_data)
        yield ""
        yield from _against_gradient(of_data)


def _against_random(panels: Sequence[Panel]) -> Iterator[str]:
    yield "| model | order | deletion | insertion | deletion, lead | insertion, lead |"
    yield "|---|---|---:|---:|---:|---:|"
    for panel in panels:
        found = panel.against(RANDOM)
        for method in METHODS:
            one = found[method]
            cells = [panel.model, method, f"{one.deletion:.3f}", f"{one.insertion:.3f}"]
            if method == RANDOM:
                cells += ["", ""]
            else:
                cells += [_interval(one.deletion_gain), _interval(one.insertion_gain)]
            yield f"| {' | '.join(cells)} |"


def _against_gradient(panels: Sequence[Panel]) -> Iterator[str]:
    yield "| model | deletion, gradient x input - ours | insertion, ours - gradient x input |"
    yield "|---|---:|---:|"
    for panel in panels:
        one = panel.against(GRADIENT)[OURS]
        gains = [_interval(one.deletion_gain, 4), _interval(one.insertion_gain, 4)]
        yield f"| {panel.model} | {' | '.join(gains)} |"


def _verdict(panels: Sequence[Panel]) -> Iterator[str]:
    for method in (RANDOM, GRADIENT):
        found = [panel.against(method)[OURS] for panel in panels]
        for area in ("deletion", "insertion"):
            gains: list[Difference] = [getattr(one, f"{area}_gain") for one in found]
            better, worse = (sum(kept) for kept in zip(*map(_sides, gains), strict=True))
            yield f"* Ours against {method}, {area}: the interval lies above 0 in {better} of"
            yield f"  {len(gains)} cases, below in {worse}."
    for panel in panels:
        if panel.model == "LinearFusion":
            yield f"* {panel.data}: gradient x input differs from the exact contributions of"
            yield f"  LinearFusion by at most {max(panel.apart):.0e} of the largest of them."


def _sides(gain: Difference) -> tuple[bool, bool]:
    return gain.low > 0, gain.high < 0


def _interval(gain: Difference, digits: int = 3) -> str:
    return f"{gain.mean:+.{digits}f} [{gain.low:+.{digits}f} {gain.high:+.{digits}f}]"


_HEAD = f"""\
# Are the explanations what the models go by?

By `python -m benchmarks.faithfulness run` and `report`, on CPUs.

An explanation of a recommendation orders the items of a user's history by what they do for its
score. If the model goes by them, its score falls fast when they are taken away in that order
(deletion: a small area under the curve is good) and rises fast when they come back one by one
(insertion: a large area is good); Petsiuk, Das and Saenko 2018. Scores are divided by that of the
whole history; a curve may pass 1, as not every item speaks for what is recommended. Asked are the
best {LISTED} items of users with {SHORTEST} to {LONGEST} items of history, drawn by a fixed seed.

* **ours** is `model.explain`: the exact contributions for LinearFusion; for FusionRecommender the
  score minus the score without the item.
* **gradient x input** is captum's InputXGradient over the weights of the history items, and for the
  behaviour attention over the weights and the profiles of the items.
* **random** is the mean of {DRAWS} random orders of each question.

The lead over random order is a paired difference with its 95 % bootstrap interval over users, the
{LISTED} questions of a user averaged first; above 0 is better. FusionRecommender has D {DIM} and is
otherwise as by default; the word beside it is how it reads a history. Modalities are not measured
so: explanations take away one at a time, and with at most four there is little to order. And what
is measured is whether an explanation says what the model goes by, not why somebody buys.

![Deletion and insertion curves](curves.png)""".splitlines()
