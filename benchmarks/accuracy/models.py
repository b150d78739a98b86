"""The models, each with what it is asked with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fusionops.cli.comparison import BASELINES, RECENCY, new_model
from fusionops.data import Encoded, Interactions, Items
from fusionops.evaluation import SummedCarriedEASE
from fusionops.models import FusionRecommender, LinearFusion

from .questions import spelling

Features = Mapping[str, Encoded]
Fit = Callable[[Interactions, Items, Features, int], Any]

SEEDS = (1, 2, 3, 4, 5)

STARTED_NETWORK: Mapping[str, Any] = {"dim": 512, "id_dropout": 0.1}
"""More dimensions of LinearFusion, whose ids are good already; all else is as by default."""


@dataclass(frozen=True)
class Contender:
    """A model under a name.

    Attributes
    ----------
    fit : callable
        Of training rows, items, features and a seed.
    groups : callable
        Whether it is run on a group of :mod:`.questions`.
    seeds : tuple of int
        Of one where there is no chance.
    recency : bool
        Whether it can be asked with a recency.
    """

    fit: Fit
    groups: Callable[[str], bool] = lambda group: True
    seeds: tuple[int, ...] = (1,)
    recency: bool = False


def _linear(train: Interactions, items: Items, features: Features, seed: int) -> Any:
    return LinearFusion().fit(train, items, features=features)


def network(
    train: Interactions,
    items: Items,
    features: Features,
    seed: int,
    choices: Mapping[str, Any] | None = None,
    start: LinearFusion | None = None,
) -> FusionRecommender:
    """A network over the given features, the spelling of the texts and the table."""
    folder = tempfile.mkdtemp(prefix="accuracy-")
    return FusionRecommender(**(choices or {})).fit(
        train,
        items,
        features={**features, "spelling": spelling(train, items)},
        start=start,
        arguments={"seed": seed, "output_dir": folder, "disable_tqdm": True},
    )


def _started(train: Interactions, items: Items, features: Features, seed: int) -> Any:
    start = LinearFusion(rank=STARTED_NETWORK["dim"]).fit(train, items, features=features)
    return network(train, items, features, seed, STARTED_NETWORK, start)


def _baseline(name: str) -> Contender:
    def fit(train: Interactions, items: Items, features: Features, seed: int) -> Any:
        return new_model(name).fit(train, items)

    def groups(group: str) -> bool:
        protocols = [group] if group in BASELINES else ["cold", "one_list"]
        return any(name in BASELINES[protocol] for protocol in protocols)

    return Contender(fit, groups)


def _summed(train: Interactions, items: Items, features: Features, seed: int) -> Any:
    return SummedCarriedEASE().fit(train, items, features=features)


CONTENDERS: Mapping[str, Contender] = {
    **{
        name: _baseline(name) for name in ("Random", "Popularity", "ItemKNN", "EASE", "CarriedEASE")
    },
    "SummedCarriedEASE": Contender(_summed, lambda group: group not in BASELINES),
    "LinearFusion": Contender(_linear, recency=True),
    "FusionRecommender": Contender(network, seeds=SEEDS, recency=True),
    "FusionRecommender, started": Contender(_started, seeds=SEEDS, recency=True),
}


def asked_with(contender: Contender, protocol: str) -> list[dict[str, Any]]:
    """The keyword arguments of ``rank`` on a protocol, the plain question last."""
    if not contender.recency:
        return [{}]
    recency = RECENCY[protocol]
    return [{"recency": recency}] + ([{"recency": None}] if recency is not None else [])
