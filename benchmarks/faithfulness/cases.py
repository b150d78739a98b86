"""The data, and the models that are explained, trained small."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusionops.data import Encoded, Interactions, Items, online_retail, synthetic
from fusionops.evaluation import protocols
from fusionops.models import FusionRecommender, LinearFusion

from ..accuracy.questions import spelling
from ..synthetic.encoding import encode

DIM = 64
SEED = 1

USERS = 150
SHORTEST, LONGEST = 5, 100
"""Of the histories that are asked about: below there is little to order, above much to score."""


@dataclass(frozen=True)
class Case:
    """What a model is fitted on.

    Attributes
    ----------
    train : Interactions
    items : Items
        In the order of the catalogue.
    features : dict of str to Encoded
        What is read by both models.
    read_by_network : dict of str to Encoded
        What LinearFusion reads from the columns itself.
    """

    train: Interactions
    items: Items
    features: Mapping[str, Encoded] = field(default_factory=dict)
    read_by_network: Mapping[str, Encoded] = field(default_factory=dict)

    def users(self, count: int = USERS) -> list[int]:
        """Codes of users with histories of a fitting length, drawn by one seed, ascending."""
        lengths = np.diff(self.train.matrix().indptr)
        fitting = np.flatnonzero((lengths >= SHORTEST) & (lengths <= LONGEST))
        drawn = np.random.default_rng(SEED).permutation(fitting)[:count]
        return np.sort(drawn).tolist()


def online() -> Case:
    """Online Retail: the training part of the next visit."""
    interactions, items = online_retail.load()
    train = protocols.next_visit(interactions).train
    return Case(
        train, items.take(train.items), read_by_network={"spelling": spelling(train, items)}
    )


def made() -> Case:
    """Synthetic data of three modalities, nothing missing."""
    shop = synthetic.make(seed=SEED)
    return Case(shop.interactions, shop.items, features=encode(shop, shop.interactions))


def _linear(case: Case) -> LinearFusion:
    return LinearFusion().fit(case.train, case.items, features=case.features)


def _network(behaviour: str) -> Callable[[Case], FusionRecommender]:
    def fit(case: Case) -> FusionRecommender:
        with tempfile.TemporaryDirectory(prefix="faithfulness-") as folder:
            return FusionRecommender(dim=DIM, behaviour=behaviour).fit(
                case.train,
                case.items,
                features={**case.features, **case.read_by_network},
                arguments={"seed": SEED, "output_dir": folder, "disable_tqdm": True},
            )

    return fit


CASES: Mapping[str, Callable[[], Case]] = {"Online Retail": online, "Synthetic data": made}

MODELS: Mapping[str, Callable[[Case], Any]] = {
    "LinearFusion": _linear,
    "FusionRecommender, mean": _network("mean"),
    "FusionRecommender, attention": _network("attention"),
}
"""The FusionRecommenders differ in how they read a history, see ``behaviour`` of the config."""
