"""Lists at every setting of ``diversify``: what they are worth, and how varied they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fusionops.cli.comparison import RECENCY, Question, ask
from fusionops.data import Interactions, Items
from fusionops.data.ids import Codes
from fusionops.evaluation import Difference, evaluate, paired_difference, protocols
from fusionops.evaluation.baselines.carried import word_tfidf
from fusionops.evaluation.metrics import intra_list_diversity
from fusionops.models import LinearFusion

GRID = tuple(step / 20 for step in range(21))
K = 20
AT_MOST = 0.01
"""The share of NDCG that the named point may lose, on validation."""

RESEMBLING = 0.5
"""The cosine of two texts from which one item counts as a repeat of the other."""

PROTOCOLS = {
    "next_visit": protocols.next_visit_validation,
    "warm": protocols.warm_validation,
}
"""The questions, with how each is asked within its own training part."""

Texts = sparse.csr_array
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Point:
    """The lists at one setting.

    Attributes
    ----------
    diversify : float
        The setting.
    figures : dict of str to float
        ``ndcg``, ``recall``, ``text_diversity`` (which the reranking does not look at),
        ``own_diversity`` (by the vectors that it compares), ``repeats``, ``coverage``, ``gini``.
    change : Difference
        Of NDCG to the lists at 0, in shares of the NDCG there.
    """

    diversify: float
    figures: dict[str, float]
    change: Difference


@dataclass(frozen=True)
class TradeOff:
    """One question at every setting.

    Attributes
    ----------
    question, validation : Question
        The question, and its counterpart within the training part.
    model : LinearFusion
        As fitted for ``question``.
    texts : scipy.sparse.csr_array
        TF-IDF of the items' words, ``[P, words]`` in unit rows.
    points, validation_points : list of Point
        By rising ``diversify``, the first at 0.
    """

    question: Question
    validation: Question
    model: LinearFusion
    texts: Texts
    points: list[Point]
    validation_points: list[Point]

    @property
    def named(self) -> Point:
        """The test lists at the setting that is chosen on validation."""
        setting = chosen(self.validation_points)
        return next(point for point in self.points if point.diversify == setting)


def measure(
    interactions: Interactions,
    items: Items,
    protocol: str,
    *,
    grid: Sequence[float] = GRID,
    new_model: Callable[[], LinearFusion] = LinearFusion,
) -> TradeOff:
    """Fit on the training part of a question and within it, and rank at every setting."""
    question = ask(interactions, protocol, ())[0]
    validation = Question(protocol, None, PROTOCOLS[protocol](question.split))
    models = [new_model().fit(one.split.train, items) for one in (question, validation)]
    texts = word_tfidf(items.take(question.split.train.items, missing="empty"))
    return TradeOff(
        question,
        validation,
        models[0],
        texts,
        curve(models[0], question, texts, grid),
        curve(models[1], validation, texts, grid),
    )


def curve(model: Any, question: Question, texts: Texts, grid: Sequence[float]) -> list[Point]:
    """The points of a fitted model on a question.

    Parameters
    ----------
    texts : scipy.sparse.csr_array
        As in :class:`TradeOff`.
    grid : sequence of float
        Settings, the first of them 0, which the others are compared with.
    """
    if not grid or grid[0] != 0:
        raise ValueError(f"grid: expected settings that begin with 0, got {list(grid)}")
    alike = resembling(texts)
    ranked = [lists(model, question, question.split.users, setting) for setting in grid]
    found = [evaluate(one, question.split, K, vectors=texts) for one in ranked]
    plain = found[0].per_user["ndcg"]
    return [
        Point(
            setting,
            {
                "ndcg": one["ndcg"],
                "recall": one["recall"],
                "text_diversity": one["intra_list_diversity"],
                "own_diversity": intra_list_diversity(codes, model.item_vectors),
                "repeats": float(repeated(codes, alike).sum(axis=1).mean()),
                "coverage": one.coverage,
                "gini": one.gini,
            },
            relative_change(one.per_user["ndcg"], plain),
        )
        for setting, codes, one in zip(grid, ranked, found, strict=True)
    ]


def lists(model: Any, question: Question, users: Codes, diversify: float) -> Codes:
    """What the model lists for users of a question, ``int64 [U, K]``."""
    return model.rank(
        users,
        K,
        candidates=question.split.candidates,
        recency=RECENCY[question.protocol],
        diversify=diversify,
    )[1]


def relative_change(
    values: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]
) -> Difference:
    """The paired difference, in shares of the baseline's mean (which is taken as known)."""
    found, mean = paired_difference(values, baseline), float(baseline.mean())
    return Difference(found.mean / mean, found.low / mean, found.high / mean, found.p_value)


def chosen(points: Sequence[Point]) -> float:
    """The largest setting that loses less than :data:`AT_MOST` of NDCG."""
    return max(point.diversify for point in points if -point.change.mean < AT_MOST)


def resembling(texts: Texts) -> Mask:
    """Which items have texts whose cosine is :data:`RESEMBLING` or more; ``[P, P]``."""
    return (texts @ texts.T).toarray() >= RESEMBLING


def repeated(ranked: Codes, alike: Mask) -> Mask:
    """Which items of a list resemble one above them.

    Parameters
    ----------
    ranked : numpy.ndarray
        ``int64 [U, k]``, -1 for none.
    alike : numpy.ndarray
        ``bool [P, P]``.

    Returns
    -------
    numpy.ndarray
        ``bool [U, k]``.
    """
    above = np.tri(ranked.shape[1], k=-1, dtype=bool)
    listed = ranked >= 0
    pairs = alike[ranked[:, :, None], ranked[:, None, :]] & above
    return (pairs & listed[:, :, None] & listed[:, None, :]).any(axis=2)
