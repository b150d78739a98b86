"""Outcomes as tables for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from fusionops.cli.comparison import (
    NO_RECENCY,
    OURS,
    WITHOUT_RECENCY,
    Comparison,
    Outcome,
    basket_share,
)

Row = tuple[str, str, str, str, str, str]


def rows_of(outcomes: Sequence[Outcome], comparisons: Sequence[Comparison]) -> list[Row]:
    """(question, model, recall, NDCG, coverage, NDCG difference) as text, a row a model."""
    by_label = {row.question.label: row for row in comparisons if row.metric == "ndcg"}
    rows = []
    for outcome in outcomes:
        label = outcome.question.label
        for name, one in outcome.evaluations.items():
            found = by_label.get(label) if name == OURS else None
            rows.append(
                (
                    label,
                    name,
                    _short(one["recall"]),
                    _short(one["ndcg"]),
                    f"{one.coverage:.2f}".removeprefix("0"),
                    "" if found is None else interval(found),
                )
            )
    return rows


def interval(row: Comparison) -> str:
    """``+.038 [+.034 +.042] to EASE``."""
    found = row.difference
    numbers = [_short(value, signed=True) for value in (found.mean, found.low, found.high)]
    return f"{numbers[0]} [{numbers[1]} {numbers[2]}] to {row.reference}"


def headings(k: int) -> Row:
    """The heads of :func:`rows_of`."""
    return ("protocol", f"model, at {k}", "recall", "NDCG", "coverage", "NDCG difference, 95 %")


def terminal_table(outcomes: Sequence[Outcome], comparisons: Sequence[Comparison], k: int) -> Table:
    """A rich table with a rule between questions."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    for number, name in enumerate(headings(k)):
        right = 2 <= number <= 4
        table.add_column(name, justify="right" if right else "left", no_wrap=number < 5)
    previous = None
    for label, model, *cells in rows_of(outcomes, comparisons):
        if previous not in (None, label):
            table.add_section()
        shown = "  no recency" if model.endswith(NO_RECENCY) else model
        first = "" if previous == label else label
        table.add_row(first, shown, *cells, style="bold" if model == OURS else None)
        previous = label
    return table


def markdown_table(outcomes: Sequence[Outcome], comparisons: Sequence[Comparison], k: int) -> str:
    """The same as :func:`terminal_table` for a README."""
    lines = ["| " + " | ".join(headings(k)) + " |", "|---|---|---:|---:|---:|---|"]
    for row in rows_of(outcomes, comparisons):
        cells = [f"**{cell}**" if cell and row[1] == OURS else cell for cell in row[1:]]
        lines.append("| " + " | ".join([row[0], *cells]) + " |")
    return "\n".join(lines)


def notes_of(outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader of the figures has to know, a sentence a protocol."""
    asked = {outcome.question.protocol: outcome for outcome in outcomes}
    notes = []
    if "warm" in asked:
        notes.append(_warm_note(asked["warm"]))
    if "next_visit" in asked:
        notes.append(
            "next visit: the session that the cut falls into is training as a whole, as a shop "
            "would ask. LinearFusion is asked with recency 'auto'."
        )
    if "cold" in asked:
        notes.append(
            "cold: only items that nobody had bought by the date, ranked from what they are like; "
            "recency is off. EASE itself has nothing to say here; CarriedEASE gives such an item "
            "the column of the items nearest in text, SummedCarriedEASE the sum of those of text "
            "and of every modality of the features."
            if "SummedCarriedEASE" in asked["cold"].evaluations
            else "cold: only items that nobody had bought by the date, ranked from their text; "
            "recency is off. EASE itself has nothing to say here; CarriedEASE gives such an item "
            "the column of the items nearest in text."
        )
    if "one_list" in asked:
        notes.append(
            "one list: items with and without history ranked together, all later purchases of "
            "unseen items are the test; recency is off."
        )
    notes.append(
        "Recency is the question asked of a fitted model, not a parameter of the fit. Ranking "
        "is over the whole catalogue; intervals are 95 % paired bootstraps over users, and one "
        "that holds 0 shows no difference."
    )
    return notes


def _warm_note(outcome: Outcome) -> str:
    share = basket_share(outcome.question)
    note = (
        "warm: without a session column the share of basket completion is unknown."
        if share is None
        else f"warm: {share:.0%} of the test pairs sit in the same session as the user's last "
        "training pair and complete that basket; next visit asks the harder question."
    )
    without = outcome.evaluations.get(WITHOUT_RECENCY)
    if without is None:
        return note
    note += (
        " LinearFusion is asked with recency 'basket', which goes by the order of the lines "
        f"within a session: that alone moves its NDCG from {_short(without['ndcg'])} to "
        f"{_short(outcome.evaluations[OURS]['ndcg'])}"
    )
    if outcome.reference is None:
        return f"{note}."
    base = outcome.evaluations[outcome.reference]
    return f"{note}; {outcome.reference}, which knows no order, has {_short(base['ndcg'])}."


def _short(value: float, *, signed: bool = False) -> str:
    """``.151``, or ``+.021``."""
    text = f"{abs(value):.3f}"
    text = text[1:] if text.startswith("0.") else text
    sign = "-" if value < 0 else "+" if signed else ""
    return sign + text
