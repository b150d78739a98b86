"""The figures of all jobs as Markdown, with paired intervals against the baseline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.cli.comparison import REFERENCES
from fusionops.evaluation import paired_difference
from fusionops.files import write_atomically

from . import hiding
from .jobs import K
from .models import CONTENDERS
from .questions import GROUPS

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One model on one question, over its seeds.

    Attributes
    ----------
    recall, ndcg : numpy.ndarray
        ``[seeds, U]``.
    """

    model: str
    recall: Values
    ndcg: Values
    coverage: float
    seconds: float
    mib: float
    device: str

    def cell(self, metric: str) -> str:
        """The mean, and the deviation over seeds where there are some."""
        of_seed = getattr(self, metric).mean(axis=1)
        spread = f" ± {of_seed.std(ddof=1):.4f}" if len(of_seed) > 1 else ""
        return f"{of_seed.mean():.4f}{spread}"


def write(work: Path, out: Path) -> None:
    """Write ``report.md``."""
    records = [
        json.loads(file.read_bytes())
        for file in sorted(work.glob("*.json"))
        if not file.name.startswith("hiding.")
    ]
    lines = ["# Accuracy on Online Retail", "", *_head(records)]
    for protocol, date in _questions(records):
        rows = list(_rows(records, protocol, date))
        lines += ["", f"## {protocol.replace('_', ' ')}{'' if date is None else ' ' + date}", ""]
        lines += _table(rows, _reference(protocol, rows), date is not None)
    lines += ["", f"## {hiding.SHARE:.0%} of the modalities of the test items hidden", ""]
    lines += hiding.table(work)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "report.md", ("\n".join(lines) + "\n").encode())


def _head(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    devices = sorted({record["device"] for record in records})
    yield f"By `python -m benchmarks.accuracy`, on {' and '.join(devices)}. Full ranking over the"
    yield f"catalogue, means over users of Recall@{K} and NDCG@{K}, with the deviation over seeds"
    yield "where there is chance. d: paired difference of NDCG to the model named in its heading,"
    yield "with 95 % bootstrap interval over users (a user's figures averaged over seeds first)."
    yield "Time and memory are of one fit, in a process of its own; memory is what it grew by."


def _questions(records: Sequence[dict[str, Any]]) -> list[tuple[str, str | None]]:
    found = {
        (figure["protocol"], figure["date"]) for record in records for figure in record["figures"]
    }
    order = [("warm", None), ("next_visit", None)]
    order += [(p, date) for p in ("cold", "one_list") for date in GROUPS[2:]]
    return [question for question in order if question in found]


def _rows(records: Sequence[dict[str, Any]], protocol: str, date: str | None) -> Iterator[Row]:
    for name in CONTENDERS:
        of_model = [record for record in records if record["model"] == name]
        by_recency: dict[str | None, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
        for record in of_model:
            for figure in record["figures"]:
                if (figure["protocol"], figure["date"]) == (protocol, date):
                    by_recency.setdefault(figure["recency"], []).append((record, figure))
        for recency, found in by_recency.items():
            yield Row(
                name if recency is None else f"{name}, recency {recency}",
                np.array([figure["recall"] for _, figure in found]),
                np.array([figure["ndcg"] for _, figure in found]),
                float(np.mean([figure["coverage"] for _, figure in found])),
                float(np.median([record["seconds"] for record, _ in found])),
                float(np.median([record["grown_mib"] for record, _ in found])),
                found[0][0]["device"],
            )


def _reference(protocol: str, rows: Sequence[Row]) -> Row:
    names = ["SummedCarriedEASE"] if protocol == "cold" else []
    names += REFERENCES[protocol]
    by_name = {row.model: row for row in rows}
    return next(by_name[name] for name in names if name in by_name)


def _table(rows: Sequence[Row], reference: Row, dated: bool) -> Iterator[str]:
    yield f"| model | recall | NDCG | coverage | d {reference.model} | fit | memory |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for row in rows:
        difference = ""
        if row is not reference:
            found = paired_difference(row.ndcg.mean(axis=0), reference.ndcg.mean(axis=0))
            difference = f"{found.mean:+.4f} [{found.low:+.4f} {found.high:+.4f}]"
        where = "" if "NVIDIA" not in row.device else f" ({row.device.split()[1]})"
        yield (
            f"| {row.model} | {row.cell('recall')} | {row.cell('ndcg')} | {row.coverage:.2f} | "
            f"{difference} | {row.seconds:.0f} s{where} | {row.mib:.0f} MiB |"
        )
