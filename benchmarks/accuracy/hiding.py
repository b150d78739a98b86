"""Modalities of test items hidden: the presence mask against zero vectors and mean vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fusionops.data import Encoded
from fusionops.evaluation import evaluate, paired_difference
from fusionops.evaluation.protocols import ONLINE_RETAIL_DATES
from fusionops.files import write_atomically
from fusionops.models import FusionRecommender

from .jobs import K
from .models import network
from .questions import data, questions

SHARE = 0.4
PATTERNS = (1, 2, 3, 4, 5)
FILLINGS = ("mask", "zeros", "means")

Hidden = npt.NDArray[np.bool_]
Filler = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def run(features: dict[str, Encoded], work: Path, seed: int) -> None:
    """Train once a date, hide by chance, rank the new items, write the figures."""
    interactions, items = data()
    rows = []
    for date in ONLINE_RETAIL_DATES:
        split = questions(interactions, date)[0].split
        model = network(split.train, items, features, seed)
        whole = _ndcg(model, split)
        for pattern in PATTERNS:
            hidden = _hidden(model, split.candidates, pattern)
            for filling in FILLINGS:
                with _Hiding(model, hidden, filling):
                    found = _ndcg(model, split)
                rows.append(
                    {
                        "date": date,
                        "pattern": pattern,
                        "filling": filling,
                        "whole": whole.tolist(),
                        "ndcg": found.tolist(),
                    }
                )
        print(date, _summary(rows, date), flush=True)
    write_atomically(work / f"hiding.{seed}.json", json.dumps(rows).encode())


def _summary(rows: list[dict], date: str) -> dict[str, float]:  # type: ignore[type-arg]
    return {
        filling: float(
            np.mean([r["ndcg"] for r in rows if (r["date"], r["filling"]) == (date, filling)])
        )
        for filling in FILLINGS
    }


def _ndcg(model: FusionRecommender, split) -> npt.NDArray[np.float64]:  # type: ignore[no-untyped-def]
    _, ranked = model.rank(split.users, K, candidates=split.candidates, recency=None)
    return evaluate(ranked, split, K).per_user["ndcg"]


def _hidden(model: FusionRecommender, candidates: npt.NDArray[np.int64], seed: int) -> Hidden:
    """Which modality of which item is hidden, ``bool [P, M]``: a share of those of the test."""
    names = [*model.item_tower.projections, "table"]
    hidden = np.zeros((len(model.items), len(names)), bool)
    rng = np.random.default_rng(seed)
    hidden[candidates] = rng.random((len(candidates), len(names))) < SHARE
    return hidden


class _Hiding:
    """The buffers of a model with something hidden, inside a ``with`` block."""

    def __init__(self, model: FusionRecommender, hidden: Hidden, filling: str) -> None:
        self._model, self._hidden, self._filling = model, torch.from_numpy(hidden), filling

    def __enter__(self) -> None:
        tower = self._model.item_tower
        self._kept = {name: buffer.clone() for name, buffer in tower.named_buffers(recurse=False)}
        with torch.no_grad():
            for column, name in enumerate(tower.projections):
                rows = self._hidden[:, column]
                vectors, present = tower.features(name), tower.presence(name)
                if self._filling == "mask":
                    present[rows] = False
                    continue
                known = vectors[present & tower.has_history]
                vectors[rows] = 0 if self._filling == "zeros" else known.mean(0)
            self._fill_table(self._hidden[:, -1])
        _forget(self._model)

    def _fill_table(self, rows: torch.Tensor) -> None:
        tower = self._model.item_tower
        if self._filling == "mask":
            tower.numeric[rows] = torch.nan
        elif self._filling == "zeros":
            tower.numeric[rows] = 0
        else:
            tower.numeric[rows] = tower.numeric[tower.has_history].nanmean(0)

    def __exit__(self, *_: object) -> None:
        for name, buffer in self._kept.items():
            self._model.item_tower.get_buffer(name).copy_(buffer)
        _forget(self._model)


def _forget(model: FusionRecommender) -> None:
    """Have the vectors made anew from the buffers."""
    model.train()
    model.eval()


def table(work: Path) -> Iterator[str]:
    """Lines of Markdown."""
    rows = [
        row for file in sorted(work.glob("hiding.*.json")) for row in json.loads(file.read_bytes())
    ]
    yield "| items from | nothing hidden | mask | zeros | means | mask - zeros | mask - means |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for date in ONLINE_RETAIL_DATES:
        of_date = [row for row in rows if row["date"] == date]
        if not of_date:
            continue
        found = {
            filling: np.mean([r["ndcg"] for r in of_date if r["filling"] == filling], axis=0)
            for filling in FILLINGS
        }
        whole = np.mean([row["whole"] for row in of_date], axis=0)
        cells = [f"{whole.mean():.4f}"]
        cells += [
            f"{values.mean():.4f} ({values.mean() / whole.mean() - 1:+.1%})"
            for values in found.values()
        ]
        for other in ("zeros", "means"):
            difference = paired_difference(found["mask"], found[other])
            cells.append(f"{difference.mean:+.4f} [{difference.low:+.4f} {difference.high:+.4f}]")
        yield f"| {date} | {' | '.join(cells)} |"
