"""The models, what can be chosen of each, and what kind of claim it stands for."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

from fusionops.data import Encoded, Split
from fusionops.data.synthetic import MODALITIES, Synthetic
from fusionops.evaluation import EASE, Popularity, Random
from fusionops.models import FusionRecommender, LinearFusion

from .bounds import Known, estimated_tastes, factors, read_factors, tastes
from .concatenation import Concatenation

DIM = 64
MOST_EPOCHS = 50
EPOCHS_BETWEEN_LOOKS = 5
RATE = 1e-3
SEEDS = (1, 2, 3)

Choice = Mapping[str, Any]
Look = Callable[[int, Any], None]
"""Called with the number of epochs done and the model, ready to rank."""


@dataclass(frozen=True)
class World:
    """What a model is fitted in.

    Attributes
    ----------
    shop : Synthetic
        Only the bounds look at its truth.
    split : Split
    features : mapping of str to Encoded
    """

    shop: Synthetic
    split: Split
    features: Mapping[str, Encoded]


Fit = Callable[[World, Choice, int, int, Look], Any]
"""Of a world, a choice, a seed, the number of epochs and a look, which a network takes."""


@dataclass(frozen=True)
class Contender:
    """A model under a name.

    Attributes
    ----------
    kind : str
        ``bound``, ``baseline``, ``single``, ``concatenation`` or ``hybrid``.
    fit : Fit
    choices : callable
        By question.
    questions : tuple of str
        That it can answer.
    trained : bool
        Whether epochs are to be chosen too, and seeds matter.
    """

    kind: str
    fit: Fit
    choices: Callable[[str], Sequence[Choice]] = lambda question: [{}]
    questions: tuple[str, ...] = ("warm", "new items")
    trained: bool = False


def _oracle(*, only_present: bool = False) -> Fit:
    def fit(world: World, choice: Choice, seed: int, epochs: int, look: Look) -> Known:
        item = factors(world.shop, only_present=only_present)
        return Known(world.split.train, tastes(world.shop), item)

    return fit


def _learned_tastes(*, read: bool) -> Fit:
    def fit(world: World, choice: Choice, seed: int, epochs: int, look: Look) -> Known:
        shop, train = world.shop, world.split.train
        item = read_factors(shop, world.features, train) if read else factors(shop)
        return Known(train, estimated_tastes(train, item, **choice), item)

    return fit


def _baseline(model: Callable[..., Any]) -> Fit:
    def fit(world: World, choice: Choice, seed: int, epochs: int, look: Look) -> Any:
        return model(**choice).fit(world.split.train)

    return fit


def _linear(modalities: Sequence[str]) -> Fit:
    def fit(world: World, choice: Choice, seed: int, epochs: int, look: Look) -> LinearFusion:
        parameters = {name: value for name, value in choice.items() if name != "reads_text"}
        items = world.shop.items if choice.get("reads_text") else None
        features = {name: world.features[name] for name in modalities}
        return LinearFusion(**parameters).fit(world.split.train, items, features=features)

    return fit


def _linear_choices(modalities: Sequence[str]) -> Callable[[str], Sequence[Choice]]:
    def choices(question: str) -> list[Choice]:
        grid: dict[str, Sequence[Any]] = {"ridge": (5.0, 20.0, 40.0)}
        if modalities and question == "warm":
            grid["content_weight"] = (0.03, 0.1, 0.3)
        elif modalities:
            grid["neighbour_weight"] = (0.0, 0.5)
        if "text" in modalities:
            grid["reads_text"] = (False, True)
        return _grid(grid)

    return choices


class _Looks(TrainerCallback):
    def __init__(self, look: Look) -> None:
        self._look = look

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let the network rank as it is now."""
        network = kwargs["model"]
        network.eval()
        self._look(round(state.epoch), network)
        network.train()


def _network(modalities: Sequence[str], **fixed: Any) -> Fit:
    def fit(world: World, choice: Choice, seed: int, epochs: int, look: Look) -> FusionRecommender:
        with tempfile.TemporaryDirectory(prefix="synthetic-") as folder:
            return FusionRecommender(dim=DIM, **{**fixed, **choice}).fit(
                world.split.train,
                features={name: world.features[name] for name in modalities},
                arguments={
                    "seed": seed,
                    "num_train_epochs": epochs,
                    "learning_rate": RATE,
                    # So that a run of fewer epochs is the beginning of one of more.
                    "lr_scheduler_type": "constant_with_warmup",
                    "logging_strategy": "no",
                    "disable_tqdm": True,
                    "use_cpu": True,
                    "output_dir": folder,
                },
                callbacks=[_Looks(look)],
            )

    return fit


def _concatenation(
    world: World, choice: Choice, seed: int, epochs: int, look: Look
) -> Concatenation:
    torch.manual_seed(seed)
    model = Concatenation(world.features, DIM, ids=choice["ids"])
    return model.fit(
        world.split.train,
        learning_rate=choice["learning_rate"],
        epochs=epochs,
        seed=seed,
        after_epoch=lambda epoch: look(epoch, model),
    )


def _grid(values: Mapping[str, Sequence[Any]]) -> list[Choice]:
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]


OPEN: Mapping[str, Any] = {
    "token_norm": False,
    "missing": "zeros",
    "id_dropout": 0.2,
    "modality_dropout": 0.0,
}
"""Lengths of features and gaps say something here; found on the validation parts."""

ORACLE = "Oracle: true factors, true tastes"
LEARNABLE = "True factors, tastes learned from histories"
PRESENT = "Oracle of the present contents"
READ = "Factors read from the features, tastes learned"
CONCATENATION = "Concatenation (eager PyTorch)"


def _all() -> Iterator[tuple[str, Contender]]:
    yield ORACLE, Contender("bound", _oracle())
    penalties = _grid({"penalty": (2.0, 4.0, 8.0)})
    for name, read in ((LEARNABLE, False), (READ, True)):
        fit = _learned_tastes(read=read)
        yield name, Contender("bound", fit, lambda question: penalties)
    yield PRESENT, Contender("bound", _oracle(only_present=True))
    yield "Random", Contender("baseline", _baseline(Random))
    warm = ("warm",)
    yield "Popularity", Contender("baseline", _baseline(Popularity), questions=warm)
    ease = _grid({"penalty": (100.0, 200.0, 400.0)})
    yield "EASE: behaviour", Contender("single", _baseline(EASE), lambda question: ease, warm)
    yield (
        "LinearFusion: behaviour",
        Contender("single", _linear(()), _linear_choices(()), warm),
    )
    for name in MODALITIES:
        one = (name,)
        yield f"LinearFusion: {name}", Contender("single", _linear(one), _linear_choices(one))
        network = _network(one, item_ids=False, **OPEN)
        yield f"FusionRecommender: {name}", Contender("single", network, trained=True)
    # More to choose from than our networks have: the baseline is to be as good as it can.
    ids = _grid({"ids": (True, False), "learning_rate": (RATE, 3 * RATE)})
    yield (
        CONCATENATION,
        Contender("concatenation", _concatenation, lambda question: ids, trained=True),
    )
    yield (
        "LinearFusion",
        Contender("hybrid", _linear(MODALITIES), _linear_choices(MODALITIES)),
    )
    residual = _grid({"residual": (True, False)})
    for fusion in ("weighted", "attention", "deep"):
        network = _network(MODALITIES, fusion=fusion, **OPEN)
        yield (
            f"FusionRecommender, {fusion}",
            Contender("hybrid", network, lambda question: residual, trained=True),
        )
    yield (
        "FusionRecommender, weighted, by default",
        Contender("hybrid", _network(MODALITIES), trained=True),
    )


CONTENDERS: Mapping[str, Contender] = dict(_all())
