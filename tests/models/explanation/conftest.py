"""A model of each kind, fitted once on the same small shop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from recommender_support import encoded, fitted, shop

from fusionops.data import Interactions, Items
from fusionops.models import LinearFusion


@pytest.fixture(scope="package")
def interactions() -> Interactions:
    """Some events of half of the users weigh nothing, some half; many pairs come again."""
    rows = shop()
    weight = np.resize(np.array([1, 1, 0.5, 1, 0, 1, 2], np.float32), len(rows))
    weight[rows.user % 2 == 1] = 1
    return Interactions(rows.user, rows.item, rows.users, rows.items, rows.time, weight=weight)


@pytest.fixture(scope="package")
def items(interactions: Interactions) -> Items:
    return Items(
        interactions.items,
        text={"title": [f"{thing} {code // 8}" for code, thing in enumerate(["mug", "tea"] * 18)]},
        numeric={"price": np.linspace(1, 9, 36)},
    )


@pytest.fixture(scope="package")
def linear(interactions: Interactions, items: Items) -> LinearFusion:
    return LinearFusion(rank=10, ridge=1.0).fit(interactions, items)


@pytest.fixture(scope="package")
def fusion(interactions: Interactions, items: Items) -> Any:
    features = encoded(interactions.items, missing=(4, 7, 33))
    return fitted(interactions, inputs={"items": items, "features": {"text": features}})


@pytest.fixture
def model(request: pytest.FixtureRequest) -> Any:
    """Either of them, where a test is parametrized over their names."""
    return request.getfixturevalue(request.param)
