"""Recommendations in words: what customers had, what is recommended, what they bought next."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from fusionops.data import Items, Split
from fusionops.data.ids import Codes

if TYPE_CHECKING:
    from fusionops.models import LinearFusion


@dataclass(frozen=True)
class Customer:
    """One customer of a split.

    Attributes
    ----------
    user : object
        The id.
    had : list of str
        The newest items of the history, newest first.
    n_had : int
        How many different items the history holds.
    recommended : list of (str, bool)
        Best first, with whether the customer bought it later.
    n_bought : int
        How many different items the customer bought later.
    """

    user: Any
    had: list[str]
    n_had: int
    recommended: list[tuple[str, bool]]
    n_bought: int

    def as_json(self) -> dict[str, Any]:
        """The same in plain values."""
        return {
            **asdict(self),
            "recommended": [{"text": text, "bought_later": hit} for text, hit in self.recommended],
        }


def draw_customers(split: Split, n: int, *, seed: int = 0) -> Codes:
    """Codes of ``n`` test users, drawn at random, so that the examples are not picked."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(split.users, size=min(n, len(split.users)), replace=False))


def describe(
    model: LinearFusion, split: Split, items: Items, users: Codes, *, k: int = 6
) -> list[Customer]:
    """What the model recommends to users of a split, beside what they had and bought next."""
    known = items.take(split.train.items, missing="empty")
    texts = [known.label(code) for code in range(len(known))]
    ids = split.train.users.decode(users)
    lists = model.recommend(ids, k).to_pylist()
    train, test = split.train.first_pairs(), split.test
    customers = []
    for code, user in zip(users.tolist(), ids.tolist(), strict=True):
        had = train.item[train.user == code]
        bought = set(test.item[test.user == code].tolist())
        ranked = split.train.items.encode([row["item"] for row in lists if row["user"] == user])
        customers.append(
            Customer(
                user,
                [texts[item] for item in had[::-1][:k]],
                len(had),
                [(texts[item], item in bought) for item in ranked.tolist()],
                len(bought),
            )
        )
    return customers


def customer_table(customers: list[Customer]) -> Table:
    """A rich table, two columns of words a customer."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("customer")
    table.add_column("had last", overflow="fold")
    table.add_column("recommended (* bought later)", overflow="fold")
    for number, one in enumerate(customers):
        if number:
            table.add_section()
        hits = sum(hit for _, hit in one.recommended)
        counts = f"{one.user}\n{one.n_had} items\n{hits} of {one.n_bought} later"
        table.add_row(
            Text(counts),
            Text("\n".join(one.had)),
            Text("\n".join(f"{'*' if hit else ' '} {text}" for text, hit in one.recommended)),
        )
    return table
