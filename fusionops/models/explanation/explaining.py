"""From a question and some items to their explanations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import Codes
from fusionops.models.explanation.explanation import (
    CONTRIBUTIONS,
    COUNTERFACTUALS,
    Explanation,
    Part,
    largest_first,
)
from fusionops.models.explanation.removal import Bound, smallest_removal
from fusionops.models.explanation.situation import NOT_LISTED, Situation, product
from fusionops.models.interface import requests
from fusionops.models.interface.split_scores import Contributions
from fusionops.models.interface.tables import HOW

METHODS = ("auto", CONTRIBUTIONS, COUNTERFACTUALS)

Doubles = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """The parts of the scores of n items, by any method.

    Attributes
    ----------
    method : str
    baseline : numpy.ndarray
        ``float64 [n]``.
    history : tuple of numpy.ndarray
        Effects and scores without, ``float64 [H, n]``, and ranks without, ``int64 [H, n]``.
    modalities : dict of str to tuple of numpy.ndarray
        The same of each modality, ``[n]``.
    """

    method: str
    baseline: Doubles
    history: tuple[Doubles, Doubles, Ranks]
    modalities: dict[str, tuple[Doubles, Doubles, Ranks]] = field(default_factory=dict)


def explain_items(
    situation: Situation,
    user: Any,
    items: Codes,
    method: str,
    bound: Bound | None,
    *,
    ranks: Ranks | None = None,
) -> list[Explanation]:
    """Explain each of some items.

    Parameters
    ----------
    situation : Situation
    user : id or None
    items : numpy.ndarray
        ``int64 [n]`` codes.
    method : {"auto", "contributions", "counterfactuals"}
    bound : Bound, optional
        Of the search for the smallest removal; without it there is none.
    ranks : numpy.ndarray, optional
        ``int64 [n]``, where they are known.

    Raises
    ------
    ValueError
        An unknown method, or one that the model does not have.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(map(repr, METHODS))}, got {method!r}")
    model, asked = situation.model, situation.asked
    whole = np.ones((1, len(situation.history)), bool)
    found = situation.outcomes(items, whole, ranks=ranks is None)
    scores, ranks = found[0][0], found[1][0] if ranks is None else ranks
    profiled = requests.has_profile(asked.pairs)
    how = requests.how(asked.pairs, ~np.isnan(scores[:1]), model._shelf.users_per_item)
    kinds = how(np.zeros(len(items), np.int64), items)
    if not profiled[0] and np.isnan(scores).all():
        scores = model._shelf.popularity[items].astype(np.float64)
        none = np.empty((0, len(items)))
        parts = Parts(COUNTERFACTUALS, np.zeros(len(items)), (none, none, none.astype(np.int64)))
    else:
        parts = _parts(situation, items, method, scores)
    values = zip(items.tolist(), scores.tolist(), ranks.tolist(), kinds.tolist(), strict=True)
    return [
        _explanation(situation, user, item, score, rank, HOW[kind], parts, number, bound)
        for number, (item, score, rank, kind) in enumerate(values)
    ]


def _parts(situation: Situation, items: Codes, method: str, scores: Doubles) -> Parts:
    found = situation.model._contributions(situation.asked, situation.history, items)
    if found is None and method == CONTRIBUTIONS:
        raise ValueError(
            f"method: expected 'counterfactuals' or 'auto', as the scores of "
            f"{situation.model.name} are no sums, got {method!r}"
        )
    if found is None or method == COUNTERFACTUALS:
        return _counterfactuals(situation, items, scores)
    return _contributions(found, scores)


def _contributions(found: Contributions, scores: Doubles) -> Parts:
    def of(effect: Doubles) -> tuple[Doubles, Doubles, Ranks]:
        return effect, scores - effect, np.full(effect.shape, NOT_LISTED)

    return Parts(
        CONTRIBUTIONS,
        found.baseline,
        of(found.history),
        {name: of(effect) for name, effect in found.modalities.items()},
    )


def _counterfactuals(situation: Situation, items: Codes, scores: Doubles) -> Parts:
    count = len(situation.history)
    without, ranks = situation.outcomes(items, ~np.eye(count, dtype=bool))
    modalities = {}
    # Which ranks by more than the scores that are known here.
    reranked = situation.model._pool(situation.k) is not None
    for part in situation.model._without_modalities(situation.asked, items):
        own = product(part.profile, part.vectors)
        rank = np.full(own.shape, NOT_LISTED)
        if not reranked:
            rank = situation.counted_ranks(part.profile, part.known, items, own)
        score = np.where(part.known[0], own[0].astype(np.float64), np.nan)
        modalities[part.name] = (scores - np.nan_to_num(score), score, rank[0])
    return Parts(
        COUNTERFACTUALS,
        np.zeros(len(items)),
        (scores - np.nan_to_num(without), without, ranks),
        modalities,
    )


def _explanation(
    situation: Situation,
    user: Any,
    item: int,
    score: float,
    rank: int,
    how: str,
    parts: Parts,
    number: int,
    bound: Bound | None,
) -> Explanation:
    id, label = situation.name(item)
    history = list(_of_history(situation, parts, number))
    modalities = [
        Part(name, name, float(effect[number]), float(without[number]), _rank(ranks[number]))
        for name, (effect, without, ranks) in parts.modalities.items()
    ]
    removal = None
    if bound is not None and history and 0 < rank <= situation.k:
        removal = smallest_removal(situation, item, parts.history[0][:, number], bound)
    return Explanation(
        user=user,
        item=id,
        label=label,
        score=score,
        rank=_rank(rank),
        how=how,
        method=parts.method,
        baseline=float(parts.baseline[number]),
        history=largest_first(history),
        modalities=largest_first(modalities),
        list_length=situation.k,
        removal=removal,
    )


def _of_history(situation: Situation, parts: Parts, number: int) -> Iterator[Part]:
    effects, without, ranks = (values[:, number].tolist() for values in parts.history)
    for (id, label), effect, score, rank in zip(
        situation.named, effects, without, ranks, strict=True
    ):
        yield Part(id, label, effect, score, _rank(rank))


def _rank(rank: int) -> int | None:
    return None if rank == NOT_LISTED else int(rank)
