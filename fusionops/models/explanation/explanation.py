"""What an explanation is: parts of a score, and what would take the item from the list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

CONTRIBUTIONS, COUNTERFACTUALS = "contributions", "counterfactuals"


@dataclass(frozen=True)
class Part:
    """What one item of the history, or one modality, does for a score.

    Attributes
    ----------
    id : int or str
        Of the item, or the name of the modality.
    label : str
        The same in words: the text of the item.
    effect : float
        The score minus what it would be without; for an exact method its contribution.
    score : float
        What it would be without; NaN where nothing would be left to go by.
    rank : int or None
        The rank without; None where the method does not ask, as for a modality where there is a
        second stage, or the item may not be listed.
    """

    id: Any
    label: str
    effect: float
    score: float
    rank: int | None = None


@dataclass(frozen=True)
class Removal:
    """The smallest set of history items whose removal drops an item from the list.

    Attributes
    ----------
    items : tuple of ids
        Empty where none was found.
    labels : tuple of str
    rank : int or None
        The rank without them.
    smallest : bool
        Whether every smaller set was tried, or all within the bound where none was found. Otherwise
        it is the smallest that a search found which extends the most promising sets; none of its
        items can be spared.
    tried : int
        How many sets were tried.
    largest : int
        The bound: sets of more items were not tried.
    """

    items: tuple[Any, ...]
    labels: tuple[str, ...]
    rank: int | None
    smallest: bool
    tried: int
    largest: int

    @property
    def found(self) -> bool:
        """Whether there is such a set within the bound."""
        return bool(self.items)


@dataclass(frozen=True)
class Explanation:
    """Why an item has its place in a user's list.

    Attributes
    ----------
    user, item : ids
        The user is None for a history of somebody new.
    label : str
        The text of the item.
    score : float
        As ``Recommender.score`` gives it (with a second stage, that of retrieval).
    rank : int or None
        Among the items that may be listed, from 1; None where this one may not.
    how : {"history", "content", "popularity"}
        What the answer rests on. With ``"popularity"`` there is no history and nothing to explain:
        the score is a number of users.
    method : {"contributions", "counterfactuals"}
        Contributions are exact: those of the history add up to the score, and so do ``baseline``
        and those of the modalities. Counterfactuals are what happens without: the score minus the
        score without; they need not add up to anything.
    baseline : float
        What of the score every item of its kind gets, whatever it is like; 0 for counterfactuals.
    history : tuple of Part
        By effect, the largest first.
    modalities : tuple of Part
        By effect, the largest first.
    list_length : int
        k, the length of the list that ``removal`` is about.
    removal : Removal or None
        None where it was not asked for, or the item is not in the list.
    """

    user: Any
    item: Any
    label: str
    score: float
    rank: int | None
    how: str
    method: str
    baseline: float
    history: tuple[Part, ...]
    modalities: tuple[Part, ...]
    list_length: int
    removal: Removal | None = None

    def to_table(self) -> pa.Table:
        """One row a part.

        Returns
        -------
        pyarrow.Table
            ``kind`` (history or modality), ``id`` (as text), ``label``, ``effect``, ``share`` (the
            effect over the score), ``score_without``, ``rank_without``.
        """
        kinds = (("history", self.history), ("modality", self.modalities))
        rows = [
            {
                "kind": kind,
                "id": str(part.id),
                "label": part.label,
                "effect": part.effect,
                "share": self.share(part),
                "score_without": part.score,
                "rank_without": part.rank,
            }
            for kind, parts in kinds
            for part in parts
        ]
        return pa.Table.from_pylist(rows, schema=_COLUMNS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that there is not is None."""
        found: dict[str, Any] = _plain(asdict(self))
        return {**found, "sentence": self.sentence()}

    def sentence(self) -> str:
        """The explanation in words."""
        from fusionops.models.explanation.words import sentence

        return sentence(self)

    def chart(self, *, most: int = 8) -> bytes:
        """A bar chart as the bytes of a PNG file.

        Parameters
        ----------
        most : int
            How many items of the history get a bar of their own; the others share one.
        """
        from fusionops.models.explanation.chart import draw

        return draw(self, most)

    def share(self, part: Part) -> float:
        """The effect of a part over the score; NaN where the score is 0."""
        return part.effect / self.score if self.score else math.nan


def largest_first(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Parts by effect; those that say nothing (NaN) last, equal ones as they come."""
    return tuple(
        sorted(parts, key=lambda part: math.inf if math.isnan(part.effect) else -part.effect)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_COLUMNS = pa.schema(
    [
        ("kind", pa.string()),
        ("id", pa.string()),
        ("label", pa.string()),
        ("effect", pa.float64()),
        ("share", pa.float64()),
        ("score_without", pa.float64()),
        ("rank_without", pa.int64()),
    ]
)
