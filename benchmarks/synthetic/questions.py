"""What is asked: two shops, two questions of each, and the validation part of each question."""

from __future__ import annotations

from functools import cache

from fusionops.data import Split, splits, synthetic
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
    """``warm``: the last fifth of each user; ``new items``: a fifth of the items, without rows."""
    rows = shop(setting).interactions
    if question == "warm":
        return splits.last_fraction(rows, FRACTION, name=question)
    return splits.held_out_items(rows, FRACTION, seed=0, name=question)


def validation(setting: str, question: str) -> Split:
    """The same question within the training part, where everything is chosen."""
    train, name = asked(setting, question).train, f"{question}, validation"
    if question == "warm":
        return splits.last_fraction(train, FRACTION, name=name)
    return splits.held_out_items(train, FRACTION, seed=1, name=name)
