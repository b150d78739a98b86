"""The lists of one customer, who is drawn and not picked, at a few settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fusionops.data import Items
from fusionops.data.ids import Codes

from .curve import Mask, TradeOff, lists, repeated, resembling

SEED = 0
HAD = 10
FAR = 0.5
"""A setting beyond every named point, to see what turning it further does."""


@dataclass(frozen=True)
class Shown:
    """One item of a list: its text, whether it resembles one above, and was bought later."""

    text: str
    repeats: bool
    bought: bool


@dataclass(frozen=True)
class Example:
    """What a customer had and is shown.

    Attributes
    ----------
    customer : str
        The id.
    had : list of str
        The newest items of the history, newest first.
    columns : dict of float to list of Shown
        The lists by setting, best first.
    """

    customer: str
    had: list[str]
    columns: dict[float, list[Shown]]


def draw(found: TradeOff, items: Items, settings: Sequence[float]) -> Example:
    """The lists of a customer whom :data:`SEED` draws from :func:`typical` ones."""
    split = found.question.split
    alike = resembling(found.texts)
    user = np.random.default_rng(SEED).choice(typical(found, alike), size=1)
    known = items.take(split.train.items, missing="empty")
    train, test = split.train.first_pairs(), split.test
    had = train.item[train.user == user[0]][::-1][:HAD]
    bought = set(test.item[test.user == user[0]].tolist())

    def shown(setting: float) -> list[Shown]:
        ranked = lists(found.model, found.question, user, setting)
        rows = zip(ranked[0].tolist(), repeated(ranked, alike)[0].tolist(), strict=True)
        return [Shown(known.label(item), again, item in bought) for item, again in rows]

    return Example(
        str(split.train.users.decode(user)[0]),
        [known.label(item) for item in had.tolist()],
        {setting: shown(setting) for setting in settings},
    )


def typical(found: TradeOff, alike: Mask) -> Codes:
    """The test users whose lists at 0 repeat as much as the average list, to the whole item."""
    users = found.question.split.users
    repeats = repeated(lists(found.model, found.question, users, 0.0), alike).sum(axis=1)
    apart = np.abs(repeats - repeats.mean())
    return users[apart == apart.min()]


def table(example: Example) -> Iterator[str]:
    """The lists beside each other in Markdown: new items bold, repeats in italics."""
    settings = list(example.columns)
    plain = {shown.text for shown in example.columns[settings[0]]}
    yield f"| | {' | '.join(f'diversify {setting:g}' for setting in settings)} |"
    yield "|---:|" + "---|" * len(settings)
    for place, row in enumerate(zip(*example.columns.values(), strict=True), start=1):
        yield f"| {place} | {' | '.join(_cell(shown, plain) for shown in row)} |"
    counts = [sum(one.repeats for one in shown) for shown in example.columns.values()]
    yield f"| repeats | {' | '.join(map(str, counts))} |"


def _cell(shown: Shown, plain: set[str]) -> str:
    mark = ("*" if shown.repeats else "") + ("" if shown.text in plain else "**")
    return f"{mark}{shown.text}{mark[::-1]}{' ✓' if shown.bought else ''}"
