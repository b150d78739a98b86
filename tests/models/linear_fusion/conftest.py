"""A small shop of two tastes, with text, a category and a price."""

from __future__ import annotations

import numpy as np
import pytest

from fusionops.data import Encoded, IdMap, Interactions, Items
from fusionops.models import LinearFusion

N_USERS, N_ITEMS, N_COLD = 60, 40, 4
COLOURS = ("red", "blue", "green", "white")
THINGS = {"kitchen": ("mug", "plate", "teapot"), "garden": ("spade", "lantern", "watering can")}


def item_id(code: int) -> str:
    return f"i{code:02d}"


@pytest.fixture(scope="session")
def items() -> Items:
    """Even codes are of the kitchen, odd ones of the garden; the last few are never bought."""
    kinds = ["kitchen" if code % 2 == 0 else "garden" for code in range(N_ITEMS)]
    text = [
        f"{COLOURS[code // 2 % 4]} {THINGS[kind][code // 8 % 3]} for the {kind}"
        for code, kind in enumerate(kinds)
    ]
    return Items(
        ids=IdMap([item_id(code) for code in range(N_ITEMS)]),
        text={"title": list(text)},
        numeric={"price": np.linspace(1.0, 20.0, N_ITEMS)},
        categorical={"section": np.array(kinds, dtype=object)},
    )


@pytest.fixture(scope="session")
def interactions(items: Items) -> Interactions:
    """Users buy mostly within one taste; some pairs come again."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(N_USERS):
        bought = rng.integers(0, (N_ITEMS - N_COLD) // 2, 14) * 2 + user % 2
        bought[rng.random(14) < 0.2] ^= 1
        rows += [(user, item, hour) for hour, item in enumerate(bought)]
    user, item, hour = np.array(rows).T
    start = np.datetime64("2024-01-01", "ns")
    return Interactions(
        user=user.astype(np.int64),
        item=item.astype(np.int64),
        users=IdMap([f"u{user:02d}" for user in range(N_USERS)]),
        items=items.ids,
        time=start + hour * np.timedelta64(30, "h"),
    )


@pytest.fixture(scope="session")
def picture(items: Items) -> Encoded:
    """Vectors by the kind of item with noise, off centre; every fifth is missing."""
    rng = np.random.default_rng(3)
    taste = np.where(np.arange(N_ITEMS) % 2 == 0, 1.0, -1.0)[:, None] * np.array([1, 1, 0, 0, 0, 0])
    vectors = 5.0 + taste + 0.5 * rng.standard_normal((N_ITEMS, 6))
    present = np.arange(N_ITEMS) % 5 != 4
    return Encoded(items.ids, np.where(present[:, None], vectors, 0).astype(np.float32), present)


@pytest.fixture(scope="session")
def model(interactions: Interactions, items: Items) -> LinearFusion:
    """Fitted once; tests that change a model fit their own."""
    return LinearFusion().fit(interactions, items)
