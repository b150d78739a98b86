"""Models side by side on the same questions, with paired intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fusionops.data import Encoded, Interactions, Items, Split
from fusionops.data.ids import Codes
from fusionops.data.splits import same_session_share
from fusionops.evaluation import (
    EASE,
    CarriedEASE,
    Difference,
    Evaluation,
    ItemKNN,
    Popularity,
    Random,
    SummedCarriedEASE,
    evaluate,
    holm,
    paired_difference,
    protocols,
)

OURS = "LinearFusion"
NO_RECENCY = ", no recency"
WITHOUT_RECENCY = f"{OURS}{NO_RECENCY}"
TRAINED = "FusionRecommender"
NAMES = (
    "Random",
    "Popularity",
    "ItemKNN",
    "EASE",
    "CarriedEASE",
    "SummedCarriedEASE",
    OURS,
    TRAINED,
)
"""The models, in the order in which they are run and shown."""

PROTOCOLS = ("warm", "next_visit", "cold", "one_list")
METRICS = ("recall", "ndcg")

RECENCY: Mapping[str, str | None] = {
    "warm": "basket",
    "next_visit": "auto",
    "cold": None,
    "one_list": None,
}
"""The recency that LinearFusion is asked with: it is the question, and takes no refit."""

BASELINES: Mapping[str, tuple[str, ...]] = {
    "warm": ("Popularity", "ItemKNN", "EASE"),
    "next_visit": ("Popularity", "ItemKNN", "EASE"),
    "cold": ("Random", "CarriedEASE"),
    "one_list": ("Popularity", "EASE", "CarriedEASE"),
}

WITH_FEATURES: Mapping[str, tuple[str, ...]] = {
    **BASELINES,
    "cold": (*BASELINES["cold"], "SummedCarriedEASE"),
    "one_list": (*BASELINES["one_list"], "SummedCarriedEASE"),
}
"""The baselines where there are features: that which reads them stands beside the others."""

REFERENCES: Mapping[str, tuple[str, ...]] = {
    "warm": ("EASE", "ItemKNN", "Popularity", "Random"),
    "next_visit": ("EASE", "ItemKNN", "Popularity", "Random"),
    "cold": ("SummedCarriedEASE", "CarriedEASE", "Random"),
    "one_list": ("EASE", "SummedCarriedEASE", "CarriedEASE", "Popularity", "Random"),
}
"""Which model the others are compared with: the first of these that was run."""

Step = Callable[[str], None]


class Model(Protocol):
    """What LinearFusion and the baselines have in common."""

    name: str

    def fit(
        self,
        interactions: Interactions,
        items: Items | None = None,
        *,
        features: Mapping[str, Encoded] | None = None,
    ) -> Any:
        """Learn from a training part."""

    def rank(
        self, users: Codes, k: int, *, candidates: Codes | None = None
    ) -> tuple[npt.NDArray[np.float32], Codes]:
        """Lists of codes."""


@dataclass(frozen=True)
class Question:
    """One split under the name of its protocol, and of its date where it has one."""

    protocol: str
    date: str | None
    split: Split

    @property
    def label(self) -> str:
        """For people."""
        name = self.protocol.replace("_", " ")
        return name if self.date is None else f"{name} {self.date}"


@dataclass(frozen=True)
class Outcome:
    """What the models were worth on one question, by their names."""

    question: Question
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def reference(self) -> str | None:
        """The baseline that the others are compared with, if one was run."""
        known = REFERENCES[self.question.protocol]
        return next((name for name in known if name in self.evaluations), None)


@dataclass(frozen=True)
class Comparison:
    """A model against the reference on one question, in one metric."""

    question: Question
    model: str
    reference: str
    metric: str
    difference: Difference
    p_holm: float


def ask(interactions: Interactions, protocol: str, dates: Sequence[str]) -> list[Question]:
    """The questions of a protocol, one a date where it goes by dates.

    Raises
    ------
    ValueError
        No user has a test pair, or a date is missing, given in vain or no date.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"--protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if protocol in ("warm", "next_visit"):
        make = protocols.warm if protocol == "warm" else protocols.next_visit
        questions = [Question(protocol, None, make(interactions))]
    else:
        if not dates:
            raise ValueError(f"--protocol {protocol} needs --date, such as --date 2011-09-01")
        dated = protocols.cold if protocol == "cold" else protocols.one_list
        questions = [Question(protocol, date, dated(interactions, date)) for date in dates]
    for question in questions:
        if len(question.split.users) == 0:
            raise ValueError(
                f"{question.label} has no user with test pairs: it keeps users and items with "
                f"{protocols.CORE} pairs or more, and these data hold {len(interactions):,} rows"
            )
    return questions


def grouped(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Questions that share a training part: the protocols of one date."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.date or question.protocol, []).append(question)
    yield from groups.values()


def answer(
    questions: Sequence[Question],
    items: Items | None,
    models: Mapping[str, Sequence[str]],
    k: int,
    step: Step,
    *,
    features: Mapping[str, Encoded] | None = None,
) -> tuple[list[Outcome], dict[str, Model]]:
    """Fit models once on the training part that the questions share, and evaluate all lists.

    Parameters
    ----------
    questions : sequence of Question
        One group of :func:`grouped`.
    items : Items or None
        Content of the catalogue.
    models : mapping of protocol to names
        What to run on each question.
    k : int
        Length of the lists.
    step : callable
        Told before each fit.
    features : mapping of str to Encoded, optional
        What encoders say of the catalogue, for the models that read it.

    Returns
    -------
    outcomes : list of Outcome
        In the order of the questions.
    fitted : dict of str to model
        By name.
    """
    outcomes = [Outcome(question) for question in questions]
    train = questions[0].split.train
    where = " and ".join(question.label for question in questions)
    fitted: dict[str, Model] = {}
    for name in models_of(questions, models):
        step(f"{where}: {name}")
        fitted[name] = new_model(name).fit(train, items, features=features)
        for outcome in outcomes:
            if name in models[outcome.question.protocol]:
                outcome.evaluations.update(_evaluations(fitted[name], outcome.question, k))
    return outcomes, fitted


def models_of(questions: Sequence[Question], models: Mapping[str, Sequence[str]]) -> list[str]:
    """The models that the questions need, each once."""
    wanted = {name for question in questions for name in models[question.protocol]}
    return sorted(wanted, key=NAMES.index)


def _evaluations(model: Model, question: Question, k: int) -> Iterator[tuple[str, Evaluation]]:
    split = question.split

    def evaluation(label: str, **asked: Any) -> tuple[str, Evaluation]:
        _, ranked = model.rank(split.users, k, candidates=split.candidates, **asked)
        return label, evaluate(ranked, split, k, model=label)

    if model.name not in (OURS, TRAINED):
        yield evaluation(model.name)
        return
    recency = RECENCY[question.protocol]
    yield evaluation(model.name, recency=recency)
    if recency is not None:
        yield evaluation(f"{model.name}{NO_RECENCY}", recency=None)


def check_model(name: str) -> None:
    """ValueError where there is no model of that name."""
    if name not in NAMES:
        raise ValueError(f"--model must be one of {', '.join(NAMES)}, got {name!r}")


def new_model(name: str) -> Model:
    """A model by its name, with its defaults."""
    check_model(name)
    if name == OURS:
        from fusionops.models import LinearFusion  # imports torch

        return LinearFusion()
    if name == TRAINED:
        from fusionops.models import FusionRecommender

        return FusionRecommender()
    classes = (Random, Popularity, ItemKNN, EASE, CarriedEASE, SummedCarriedEASE)
    return next(one for one in classes if one.name == name)()


def compared(outcomes: Sequence[Outcome]) -> list[Comparison]:
    """LinearFusion against the reference of each question, Holm-adjusted over all of them."""
    rows = []
    for outcome in outcomes:
        reference = outcome.reference
        if reference is None or OURS not in outcome.evaluations:
            continue
        ours, base = outcome.evaluations[OURS], outcome.evaluations[reference]
        if len(ours.users) < 2:
            continue  # one user: there is nothing to resample
        rows += [
            (
                outcome.question,
                reference,
                metric,
                paired_difference(ours.per_user[metric], base.per_user[metric]),
            )
            for metric in METRICS
        ]
    adjusted = holm(np.array([row[-1].p_value for row in rows], dtype=np.float64))
    return [
        Comparison(question, OURS, reference, metric, difference, float(p))
        for (question, reference, metric, difference), p in zip(rows, adjusted, strict=True)
    ]


def basket_share(question: Question) -> float | None:
    """The share of basket completion in the test, where sessions are known."""
    if question.split.train.session is None:
        return None
    return same_session_share(question.split)


def as_json(outcomes: Sequence[Outcome], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """``protocols`` and ``differences``: by protocol, then by date where there is one."""
    figures: dict[str, Any] = {}
    for outcome in outcomes:
        _place(figures, outcome.question).update(
            {name: one.summary() for name, one in outcome.evaluations.items()}
        )
    differences: dict[str, Any] = {}
    for row in comparisons:
        found = row.difference
        place = _place(differences, row.question)
        place.update(model=row.model, baseline=row.reference)
        k = _k_of(outcomes)
        place[f"{row.metric}@{k}"] = {
            "difference": found.mean,
            "low": found.low,
            "high": found.high,
            "p_holm": row.p_holm,
        }
    shares = {
        outcome.question.protocol: share
        for outcome in outcomes
        if outcome.question.date is None and (share := basket_share(outcome.question)) is not None
    }
    return {"protocols": figures, "differences": differences, "basket_completion": shares}


def _place(tree: dict[str, Any], question: Question) -> dict[str, Any]:
    node: dict[str, Any] = tree.setdefault(question.protocol, {})
    if question.date is not None:
        node = node.setdefault(question.date, {})
    return node


def _k_of(outcomes: Sequence[Outcome]) -> int:
    return next(one.k for outcome in outcomes for one in outcome.evaluations.values())
