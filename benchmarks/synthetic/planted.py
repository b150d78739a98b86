"""Do explanations name the modality that was planted? On a shop on which nothing was chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.data import Split, synthetic
from fusionops.data.synthetic import MODALITIES, Synthetic
from fusionops.evaluation import paired_difference
from fusionops.files import write_atomically

from .contenders import CONTENDERS, SEEDS, World
from .encoding import encode
from .jobs import processor, records
from .questions import QUESTIONS, SETTINGS, split

SEED = 1  # of the shop; settings were chosen on that of seed 0
MODELS = ("LinearFusion", "FusionRecommender, weighted")
USERS, LISTED = 200, 5

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """The explanations of one model on one question of a shop.

    Attributes
    ----------
    user : list of int
        Whose explanation each is.
    planted, known : list of bool
        Whether the first of the contents is the user's modality, and whether the item has it.
    largest : list of bool
        Whether the first is what truly adds most, of the contents that the item has.
    """

    setting: str
    question: str
    model: str
    user: list[int]
    planted: list[bool]
    known: list[bool]
    largest: list[bool]


def run(work: Path) -> None:
    """Fit the models as they were chosen, explain, compare with the truth, write."""
    chosen = {(one["setting"], one["question"], one["contender"]): one for one in records(work)}
    found = []
    for setting, missing in SETTINGS.items():
        made = synthetic.make(missing=missing, seed=SEED)
        for question in QUESTIONS:
            questioned = split(made.interactions, question, name=question)
            world = World(made, questioned, encode(made, questioned.train))
            for name in MODELS:
                record = chosen[setting, question, name]
                model = CONTENDERS[name].fit(
                    world, record["choice"], SEEDS[0], record["epochs"] or 0, lambda *_: None
                )
                found.append(asked(model, made, world.split, setting, question, name))
    values = {"processor": processor(), "found": [vars(one) for one in found]}
    file = _file(work)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(values).encode())


def asked(
    model: Any, shop: Synthetic, split: Split, setting: str, question: str, name: str
) -> Found:
    """What the explanations of the best items of some users name first."""
    rng = np.random.default_rng(0)
    users = np.sort(rng.choice(split.users, min(USERS, len(split.users)), replace=False))
    found = Found(setting, question, name, [], [], [], [])
    ids = split.train.items.ids
    candidates = None if split.candidates is None else ids[split.candidates]
    for user in users.tolist():
        listed = model.explain_list(
            split.train.users.ids[user].item(), LISTED, candidates=candidates, recency=None
        )
        for explanation in listed:
            item = int(split.train.items.encode([explanation.item])[0])
            first = next(part.id for part in explanation.modalities if part.id in MODALITIES)
            true = shop.contributions(np.array([user]), np.array([item]))[0]
            present = np.array([shop.present[one][item] for one in MODALITIES])
            main = int(shop.truth.main[user])
            found.user.append(user)
            found.planted.append(first == MODALITIES[main])
            found.known.append(bool(present[main]))
            largest = int(np.argmax(np.where(present, true, -np.inf)))
            found.largest.append(first == MODALITIES[largest])
    return found


def section(work: Path) -> Iterator[str]:
    """The lines of the report; none where it has not been run."""
    if not _file(work).exists():
        return
    values = json.loads(_file(work).read_bytes())
    found = [Found(**one) for one in values["found"]]
    yield from (
        "",
        "## Do explanations name the planted modality?",
        "",
        f"By `python -m benchmarks.synthetic planted` on {values['processor']}.",
        "A user goes by one modality most of all, and of an explanation of one of the first",
        f"{LISTED} items of the list the first content (text, image or audio; behaviour and ids",
        "aside) should be that. LinearFusion explains by exact contributions, FusionRecommender by",
        "what the score loses without a modality. The shop is another one (seed",
        f"{SEED}), on which nothing was chosen; {USERS} of its users. An item that lacks the",
        "planted content cannot be explained by it, so it counts in the last column only: whether",
        "the first is what truly adds most, of the contents that the item has. Chance is a third.",
        "95 % bootstrap intervals over users.",
        "",
        "| question | contents | model | explanations | planted first | truly largest first |",
        "|---|---|---|---:|---:|---:|",
    )
    for one in found:
        known = np.array(one.known)
        yield (
            f"| {one.question} | {one.setting} | {one.model} | {known.sum():,} of {len(known):,} | "
            f"{_share(one.user, one.planted, known)} | "
            f"{_share(one.user, one.largest, np.ones_like(known))} |"
        )


def _file(work: Path) -> Path:
    return work / "planted" / "found.json"


def _share(users: Sequence[int], hits: Sequence[bool], counted: Mask) -> str:
    """The share of hits among what counts, the mean over users, with its interval."""
    user, hit = np.array(users)[counted], np.array(hits, np.float64)[counted]
    _, place, count = np.unique(user, return_inverse=True, return_counts=True)
    shares = np.bincount(place, hit) / count
    interval = paired_difference(shares, np.zeros_like(shares))
    return f"{interval.mean:.1%} [{interval.low:.1%} {interval.high:.1%}]"
