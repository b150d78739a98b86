"""The curves as Markdown and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from fusionops.evaluation import Difference
from fusionops.models.interface.diversify import pool_size

from .curve import AT_MOST, RESEMBLING, K, Point, TradeOff
from .example import SEED, Example, table

PICTURE = "tradeoff.png"

_COLUMNS = (
    "diversify",
    "NDCG",
    "change",
    "recall",
    "variety, text",
    "variety, model",
    "repeats",
    "coverage",
    "Gini",
)


def markdown(found: Sequence[TradeOff], example: Example, machine: str, command: str) -> str:
    """The whole report."""
    lines = ["# Diversity on Online Retail", "", *_head(found[0], machine, command)]
    lines += ["", f"![NDCG against variety, coverage and Gini]({PICTURE})", ""]
    lines += ["## The named point", "", *_named(found)]
    for one in found:
        lines += ["", f"## {one.question.label}, test", "", *_points(one, one.points)]
        lines += ["", f"## {one.question.label}, validation", ""]
        lines += _points(one, one.validation_points)
    lines += ["", "## One customer", "", *_example(found[0], example)]
    return "\n".join(lines) + "\n"


def percent(share: float) -> str:
    """A signed share, as 1.23 %."""
    return f"{100 * share:+.2f} %"


def interval(change: Difference) -> str:
    """A change of NDCG and its interval."""
    return f"{percent(change.mean)} [{100 * change.low:+.2f} {100 * change.high:+.2f}]"


def _head(found: TradeOff, machine: str, command: str) -> Iterator[str]:
    pool = pool_size(K, len(found.question.split.train.items))
    yield f"By `{command}`, on"
    yield f"{machine}."
    yield f"LinearFusion with its defaults, lists of {K} over the whole catalogue, which"
    yield f"`diversify` chooses out of the {pool} best. The columns:"
    yield ""
    yield "- change: of NDCG to `diversify=0`, in percent of it, with the paired 95 % bootstrap"
    yield "  interval over users;"
    yield "- variety, text: mean of 1 - cosine over the pairs of a list, by the TF-IDF of the"
    yield "  words, which the reranking does not look at;"
    yield "- variety, model: the same by the model's item vectors, which are what it compares;"
    yield f"- repeats: items of a list whose text has a cosine of {RESEMBLING:g} or more with that"
    yield "  of one above them;"
    yield "- coverage: share of the catalogue that is in any list;"
    yield "- Gini: how unevenly the items are shown, 0 for all alike."


def _named(found: Sequence[TradeOff]) -> Iterator[str]:
    yield f"The largest setting that loses less than {100 * AT_MOST:g} % of NDCG on validation,"
    yield "which lies within the training part; then what it does on test, whatever that is."
    yield ""
    yield "| question | diversify | change, validation | change, test | variety, text | repeats |"
    yield "|---|---:|---:|---:|---:|---:|"
    for one in found:
        plain, named = one.points[0], one.named
        validation = next(p for p in one.validation_points if p.diversify == named.diversify)
        yield (
            f"| {one.question.label} | **{named.diversify:g}** | {interval(validation.change)} | "
            f"{interval(named.change)} | {_change(plain, named, 'text_diversity', 3)} | "
            f"{_change(plain, named, 'repeats', 2)} |"
        )
    yield ""
    yield "| question | diversify | variety, model | coverage | Gini | recall |"
    yield "|---|---:|---:|---:|---:|---:|"
    for one in found:
        plain, named = one.points[0], one.named
        cells = [_change(plain, named, name, 3) for name in ("own_diversity", "coverage", "gini")]
        cells.append(_change(plain, named, "recall", 4))
        yield f"| {one.question.label} | {named.diversify:g} | {' | '.join(cells)} |"


def _change(before: Point, after: Point, metric: str, digits: int) -> str:
    return f"{before.figures[metric]:.{digits}f} → {after.figures[metric]:.{digits}f}"


def _points(found: TradeOff, points: Sequence[Point]) -> Iterator[str]:
    question = found.question if points is found.points else found.validation
    yield f"{len(question.split.users):,} customers."
    yield ""
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|" + "---:|" * len(_COLUMNS)
    for point in points:
        of = point.figures
        name = f"{point.diversify:g}"
        yield (
            f"| {f'**{name}**' if point.diversify == found.named.diversify else name} | "
            f"{of['ndcg']:.4f} | {interval(point.change)} | {of['recall']:.4f} | "
            f"{of['text_diversity']:.3f} | {of['own_diversity']:.3f} | {of['repeats']:.2f} | "
            f"{of['coverage']:.3f} | {of['gini']:.3f} |"
        )


def _example(found: TradeOff, example: Example) -> Iterator[str]:
    yield f"Customer {example.customer} of {found.question.label}, drawn by seed {SEED} from those"
    yield "whose list at 0 repeats as much as the average one. *Italics*: a repeat of an item above"
    yield "it. **Bold**: not in the list at 0. ✓: bought on a later visit."
    yield ""
    yield f"Had last: {', '.join(example.had)}."
    yield ""
    yield from table(example)


def as_json(found: Sequence[TradeOff], example: Example, machine: str) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "machine": machine,
        "questions": {
            one.question.protocol: {
                "named": one.named.diversify,
                "test": [asdict(point) for point in one.points],
                "validation": [asdict(point) for point in one.validation_points],
            }
            for one in found
        },
        "example": asdict(example),
    }
