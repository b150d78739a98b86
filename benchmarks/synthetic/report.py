"""The figures of all jobs as Markdown: how much of the gain that is there each model reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.evaluation import Difference, holm, paired_difference
from fusionops.files import write_atomically

from . import planted
from .contenders import CONCATENATION, CONTENDERS, LEARNABLE, ORACLE, PRESENT, READ
from .jobs import K, records
from .preface import head
from .questions import QUESTIONS, SETTINGS, TARGET

Values = npt.NDArray[np.float64]

_RESAMPLES = 2000
_LEVEL = 0.05


@dataclass(frozen=True)
class Row:
    """One model on one question, a user's figures averaged over seeds.

    Attributes
    ----------
    ndcg, recall : numpy.ndarray
        ``[U]``.
    spread : float or None
        Deviation of the mean NDCG over seeds.
    """

    name: str
    ndcg: Values
    recall: Values
    spread: float | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Row:
        """From what a job has written."""
        ndcg = np.array(record["ndcg"])
        spread = float(ndcg.mean(axis=1).std(ddof=1)) if len(ndcg) > 1 else None
        recall = np.array(record["recall"]).mean(axis=0)
        return cls(record["contender"], ndcg.mean(axis=0), recall, spread)

    @property
    def kind(self) -> str:
        """What it stands for."""
        return CONTENDERS[self.name].kind


@dataclass(frozen=True)
class Part:
    """One question of one shop.

    Attributes
    ----------
    rows : dict of str to Row
        By model, in the order in which they are shown.
    """

    setting: str
    question: str
    rows: Mapping[str, Row]

    @property
    def best_single(self) -> Row:
        """The single modality with the best test figure, which makes the gain of others small."""
        singles = [row for row in self.rows.values() if row.kind == "single"]
        return max(singles, key=lambda row: row.ndcg.mean())

    @property
    def best_hybrid(self) -> Row:
        """Of our fusions."""
        hybrids = [row for row in self.rows.values() if row.kind == "hybrid"]
        return max(hybrids, key=lambda row: row.ndcg.mean())

    def share(self, row: Row, top: str) -> tuple[float, float, float]:
        """The share of the gain from the best single to `top`, with its interval."""
        columns = np.stack([row.ndcg, self.best_single.ndcg, self.rows[top].ndcg], axis=1)
        return share_of_gain(columns)

    def differences(self) -> Iterator[tuple[str, str, Difference]]:
        """Each model against the best single and against the concatenation."""
        for reference in (self.best_single.name, CONCATENATION):
            for row in self.rows.values():
                if row.kind in ("hybrid", "concatenation") and row.name != reference:
                    against = self.rows[reference].ndcg
                    yield row.name, reference, paired_difference(row.ndcg, against)


def share_of_gain(columns: Values) -> tuple[float, float, float]:
    """``(model - single) / (top - single)`` of the means over users, with a bootstrap interval.

    Parameters
    ----------
    columns : numpy.ndarray
        ``[U, 3]``: the figures of the model, the single and the top.

    Returns
    -------
    tuple of float
        The share, and its 95 % interval over users.
    """
    n = len(columns)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _RESAMPLES)
    means = np.concatenate([columns.mean(axis=0)[None], counts @ columns / n])
    shares = (means[:, 0] - means[:, 1]) / (means[:, 2] - means[:, 1])
    low, high = np.quantile(shares[1:], [0.025, 0.975])
    return float(shares[0]), float(low), float(high)


def write(work: Path, out: Path) -> None:
    """Write ``report.md``."""
    found = records(work)
    parts = [_part(found, setting, question) for setting in SETTINGS for question in QUESTIONS]
    significant = _significant(parts)
    lines = [*head(found), "", *_summary(parts)]
    for part in parts:
        lines += ["", f"## {part.question}, {part.setting}", "", *_table(part, significant)]
    lines += planted.section(work)
    lines += ["", "## What was chosen", "", *_choices(found)]
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "report.md", ("\n".join(lines) + "\n").encode())


def _part(found: Sequence[Mapping[str, Any]], setting: str, question: str) -> Part:
    here = {
        record["contender"]: Row.of(record)
        for record in found
        if (record["setting"], record["question"]) == (setting, question)
    }
    return Part(setting, question, {name: here[name] for name in CONTENDERS if name in here})


def _significant(parts: Sequence[Part]) -> set[tuple[str, str, str, str]]:
    """Which differences are more than chance, by Holm over all of the report."""
    keys, p_values = [], []
    for part in parts:
        for name, reference, difference in part.differences():
            keys.append((part.setting, part.question, name, reference))
            p_values.append(difference.p_value)
    return {key for key, p in zip(keys, holm(p_values), strict=True) if p < _LEVEL}


def _summary(parts: Sequence[Part]) -> Iterator[str]:
    yield "Shares of the gain from the best single to the oracle:"
    yield ""
    bounds = (LEARNABLE, READ, PRESENT)
    yield (
        f"| question | contents | best single | best hybrid | its share | {TARGET:.0%}? "
        f"| {' | '.join(bounds)} |"
    )
    yield "|---|---|---|---|---:|---|---:|---:|---:|"
    for part in parts:
        best = part.best_hybrid
        share = part.share(best, ORACLE)
        reached = "reached" if share[0] >= TARGET else "not reached"
        yield (
            f"| {part.question} | {part.setting} | {part.best_single.name} | {best.name} | "
            f"{_share(share)} | {reached} | "
            f"{' | '.join(f'{part.share(part.rows[name], ORACLE)[0]:.0%}' for name in bounds)} |"
        )


def _table(part: Part, significant: set[tuple[str, str, str, str]]) -> Iterator[str]:
    yield (
        f"| model | NDCG@{K} | recall@{K} | share of the gain | share, tastes learned "
        f"| minus {part.best_single.name} | minus {CONCATENATION} |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    differences = {(name, against): found for name, against, found in part.differences()}
    for row in part.rows.values():
        spread = "" if row.spread is None else f" ± {row.spread:.4f}"
        cells = [row.name, f"{row.ndcg.mean():.4f}{spread}", f"{row.recall.mean():.4f}"]
        compared = row.kind in ("hybrid", "concatenation")
        for top in (ORACLE, LEARNABLE):
            shown = compared or (row.kind == "bound" and top == ORACLE != row.name)
            cells.append(_share(part.share(row, top)) if shown else "")
        for reference in (part.best_single.name, CONCATENATION):
            difference = differences.get((row.name, reference))
            star = (part.setting, part.question, row.name, reference) in significant
            cells.append("" if difference is None else _difference(difference, star))
        yield f"| {' | '.join(cells)} |"


def _choices(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| model | question | contents | choice | epochs | validation NDCG | all fits, s |"
    yield "|---|---|---|---|---:|---:|---:|"
    for name in CONTENDERS:
        for record in found:
            if record["contender"] == name and (record["choice"] or record["epochs"]):
                choice = ", ".join(f"{key} {value}" for key, value in record["choice"].items())
                yield (
                    f"| {name} | {record['question']} | {record['setting']} | {choice} | "
                    f"{record['epochs'] or ''} | {record['validation_ndcg']:.4f} | "
                    f"{record['seconds']:.0f} |"
                )


def _share(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.0%} [{found[1]:.0%} {found[2]:.0%}]"


def _difference(found: Difference, star: bool) -> str:
    return f"{found.mean:+.4f} [{found.low:+.4f} {found.high:+.4f}]{' *' if star else ''}"
