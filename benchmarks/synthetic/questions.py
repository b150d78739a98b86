"""What is asked: two shops, two questions of each, and the validation part of each question."""

from __future__ import annotations

from functools import cache

from fusionops.data import Interactions, Split, splits, synthetic
from fusionops.data.synthetic import Synthetic

SETTINGS = {"all": 0.0, "40 % missing": 0.4}
"""The share of contents that is missing, by its name."""

QUESTIONS = ("warm", "new items")

FRACTION = 0.2

TARGET = 0.8
"""The share of the gain from the best single modality to the oracle that a hybrid is to reach."""


@cache
def shop(setting: str) -> Synthetic:
    """The synthetic shop of a setting; both have the same purchases."""
    return synthetic.make(missing=SETTINGS[setting], seed=0)


def asked(setting: str, question: str) -> Split:
    """A question of a setting's shop."""
    return split(shop(setting).interactions, question, name=question)


def validation(setting: str, question: str) -> Split:
    """The same question within the training part, where everything is chosen."""
    train = asked(setting, question).train
    return split(train, question, name=f"{question}, validation", seed=1)


def split(rows: Interactions, question: str, *, name: str, seed: int = 0) -> Split:
    """``warm``: the last fifth of each user; ``new items``: a fifth of the items, without rows."""
    if question == "warm":
        return splits.last_fraction(rows, FRACTION, name=name)
    return splits.held_out_items(rows, FRACTION, seed=seed, name=name)
