"""Explanations in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fusionops.models.explanation.explanation import CONTRIBUTIONS, Explanation, Part

_NAMED = 3  # items of the history, and modalities, that a sentence names
_SMALL = 0.005  # of the score: what is less is not worth a word

_PHRASES = {
    "behaviour": "what customers had together",
    "id": "who else had it",
    "table": "its columns",
    "user table": "the columns of the user",
    "user id": "who the user is",
    "user reviews": "the user's own reviews",
}


def phrase(modality: str) -> str:
    """A modality as a noun: ``its image``, or what a special one stands for."""
    return _PHRASES.get(modality, f"its {modality}")


def sentence(explanation: Explanation) -> str:
    """The explanation as a few sentences."""
    place = "may not be listed" if explanation.rank is None else f"is number {explanation.rank}"
    if explanation.how == "popularity":
        had = _counted(math.floor(explanation.score), "user")
        return f"{explanation.label} {place}: {had} had it, and there is no history to go by."
    parts = [f"{explanation.label} {place}, with a score of {explanation.score:.3g}."]
    parts += _shares(explanation) if explanation.method == CONTRIBUTIONS else _changes(explanation)
    parts += _removal(explanation)
    return " ".join(parts)


def _shares(explanation: Explanation) -> list[str]:
    found = []
    history = _worth_a_word(explanation, explanation.history)
    if history:
        names = [f"{part.label} ({explanation.share(part):.0%})" for part in history]
        found.append(f"Of what the user had, it rests most on {_listed(names)}.")
    modalities = _worth_a_word(explanation, explanation.modalities)
    names = [f"{phrase(part.id)} ({explanation.share(part):.0%})" for part in modalities]
    share = explanation.baseline / explanation.score if explanation.score > 0 else 0.0
    if share >= _SMALL:
        names.append(f"what any new item would get ({share:.0%})")
    if names:
        found.append(f"It comes from {_listed(names)}.")
    return found


def _changes(explanation: Explanation) -> list[str]:
    found = []
    for parts, naming in (
        (explanation.history, lambda part: part.label),
        (explanation.modalities, lambda part: phrase(part.id)),
    ):
        for part in _worth_a_word(explanation, parts)[:2]:
            found.append(f"Without {naming(part)} {_change(explanation, part)}.")
    return found


def _change(explanation: Explanation, part: Part) -> str:
    if math.isnan(part.score):
        return "there would be nothing to go by"
    change = f"its score would be {explanation.share(part):.0%} lower"
    if part.rank is None or part.rank == explanation.rank:
        return change
    return f"{change} and it would be number {part.rank}"


def _removal(explanation: Explanation) -> list[str]:
    removal = explanation.removal
    if removal is None:
        return []
    first = _first(explanation.list_length)
    if not removal.found:
        sets = f"of up to {_counted(removal.largest, 'item')} of the history"
        if removal.smallest:
            return [f"No set {sets} would take it out of {first}."]
        tried = _counted(removal.tried, "set")
        return [f"Of {tried} {sets} that were tried, none would take it out of {first}."]
    where = "" if removal.rank is None else f" (to number {removal.rank})"
    said = f"Without {_listed(removal.labels)} it would leave {first}{where}"
    if len(removal.items) > 1:
        said += "; no smaller set " + ("does that" if removal.smallest else "was found")
    return [f"{said}."]


def _worth_a_word(explanation: Explanation, parts: Sequence[Part]) -> list[Part]:
    """Those that speak for the item, the largest first."""
    if explanation.score <= 0:
        return []
    worth = [part for part in parts if explanation.share(part) >= _SMALL]
    return worth[:_NAMED]


def _first(k: int) -> str:
    return "the first place" if k == 1 else f"the first {k}"


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
