"""The smallest set of history items without which an item drops from the list."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from fusionops.models.explanation.explanation import Removal
from fusionops.models.explanation.situation import NOT_LISTED, Situation

Doubles = npt.NDArray[np.float64]
Set = tuple[int, ...]

_BEAM = 16


@dataclass(frozen=True)
class Bound:
    """How far a search goes.

    Attributes
    ----------
    largest_removal : int
        Sets of more items are not tried.
    budget : int
        How many sets are tried. A size is tried as a whole where that leaves something for the
        later ones, else the most promising sets of the size before are extended. Single items are
        tried in any case, and what is found without having tried every smaller set is freed of
        items that it can spare.
    """

    largest_removal: int = 5
    budget: int = 2000

    def __post_init__(self) -> None:
        for name in ("largest_removal", "budget"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


@dataclass
class _Search:
    """Sets by number of their place in the history, and how near they come to the goal."""

    situation: Situation
    item: int
    tried: int = 0

    def margins(self, sets: list[Set]) -> Doubles:
        """By how much the item stays in the list without each set; below 0: it has dropped."""
        self.tried += len(sets)
        kept = np.ones((len(sets), len(self.situation.history)), bool)
        for row, places in enumerate(sets):
            kept[row, list(places)] = False
        scores, items = self.situation.lists(kept)
        k = self.situation.k
        found = np.full(len(sets), -np.inf)
        listed, place = np.nonzero(items[:, :k] == self.item)
        # The first that is not listed, where there is one, is what would take its place.
        last = np.where(np.isfinite(scores), scores, np.nan)[:, min(k, scores.shape[1] - 1)]
        found[listed] = np.nan_to_num(scores[listed, place] - last[listed], nan=np.inf)
        return found

    def spare(self, found: Set) -> Set:
        """The set without items that it can do without."""
        while len(found) > 1:
            smaller = list(itertools.combinations(found, len(found) - 1))
            dropped = np.flatnonzero(self.margins(smaller) < 0)
            if len(dropped) == 0:
                break
            found = smaller[dropped[0]]
        return found


def smallest_removal(situation: Situation, item: int, effects: Doubles, bound: Bound) -> Removal:
    """Search by size: all sets of a size where the budget allows, else from the best before.

    Parameters
    ----------
    situation : Situation
    item : int
        The code of an item in the list.
    effects : numpy.ndarray
        ``float64 [H]``, of the items of the history: among sets that do, the one with the largest
        effect is given.
    bound : Bound
    """
    search = _Search(situation, item)
    count, every = len(situation.history), True  # whether every smaller set was tried
    effects = np.nan_to_num(effects)
    promising: list[Set] = []
    largest = min(bound.largest_removal, count)
    for size in range(1, largest + 1):
        left, later = bound.budget - search.tried, largest - size
        whole = size == 1 or comb(count, size) <= left - later * count
        sets = (
            list(itertools.combinations(range(count), size))
            if whole
            else _extended(promising, effects)[: max(left, 0) // (later + 1)]
        )
        if not sets:
            every = False
            break
        margins = search.margins(sets)
        effect = np.array([effects[list(places)].sum() for places in sets])
        dropped = np.flatnonzero(margins < 0)
        if len(dropped):
            found = sets[dropped[np.argmax(effect[dropped])]]
            return _found(search, found if every else search.spare(found), every, bound)
        every &= whole
        order = np.lexsort((-effect, margins))[:_BEAM]
        promising = [sets[place] for place in order]
    return Removal((), (), None, every, search.tried, bound.largest_removal)


def _extended(sets: Sequence[Set], effects: Doubles) -> list[Set]:
    """Each set with one item more, those of the first sets and with the largest effects first."""
    order = np.argsort(-effects, kind="stable").tolist()
    return list(
        dict.fromkeys(
            tuple(sorted((*places, place)))
            for places in sets
            for place in order
            if place not in places
        )
    )


def _found(search: _Search, places: Set, every: bool, bound: Bound) -> Removal:
    situation = search.situation
    kept = np.ones((1, len(situation.history)), bool)
    kept[0, list(places)] = False
    _, ranks = situation.outcomes(np.array([search.item]), kept)
    names = [situation.named[place] for place in places]
    rank = int(ranks[0, 0])
    return Removal(
        tuple(id for id, _ in names),
        tuple(label for _, label in names),
        None if rank == NOT_LISTED else rank,
        every,
        search.tried,
        bound.largest_removal,
    )
