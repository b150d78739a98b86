"""The recommender on a GPU gives what it gives on the CPU."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gpu_support import DEVICE

pytest.importorskip("transformers")

from fusionops.data import Encoded, IdMap, Interactions, Items
from fusionops.models import FusionRecommender
from fusionops.models.fusion_recommender.examples import HistoryExamples, collate
from fusionops.models.interface.histories import Histories

USERS, ITEMS = 40, 70


def shop() -> tuple[Interactions, Items, dict[str, Encoded]]:
    rng = np.random.default_rng(0)
    ids = IdMap([f"i{p:02d}" for p in range(ITEMS)])
    pairs = np.array([(u, p) for u in range(USERS) for p in rng.choice(ITEMS, 9, replace=False)])
    interactions = Interactions(
        pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), IdMap(range(USERS)), ids
    )
    price = rng.random(ITEMS)
    price[::5] = np.nan
    features = {
        name: Encoded(
            ids, rng.normal(size=(ITEMS, width)).astype(np.float32), rng.random(ITEMS) < 0.8
        )
        for name, width in (("text", 12), ("image", 7))
    }
    return interactions, Items(ids, numeric={"price": price}), features


@pytest.fixture(scope="module", params=["weighted", "attention", "deep"])
def fitted(request: pytest.FixtureRequest) -> FusionRecommender:
    interactions, items, features = shop()
    model = FusionRecommender(
        dim=16, num_heads=2, fusion=request.param, rerank_candidates=10, items_per_chunk=16
    )
    arguments = {"max_steps": 2, "use_cpu": True, "disable_tqdm": True}
    return model.fit(interactions, items, features=features, arguments=arguments)


def batch(model: FusionRecommender) -> dict[str, torch.Tensor]:
    histories = Histories.from_interactions(shop()[0])
    examples = HistoryExamples(histories, model.config)
    return collate([examples[index] for index in range(8)])


def step(model: FusionRecommender, device: torch.device) -> tuple[float, dict[str, torch.Tensor]]:
    model = copy.deepcopy(model).to(device).eval()  # no dropout: the generators differ
    given: dict[str, Any] = {name: value.to(device) for name, value in batch(model).items()}
    loss = model(**given)["loss"]
    loss.backward()
    gradients = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), gradients


def test_a_training_step_is_that_of_the_cpu(fitted: FusionRecommender) -> None:
    expected, expected_gradients = step(fitted, torch.device("cpu"))
    loss, gradients = step(fitted, DEVICE)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        largest = expected_gradients[name].abs().max().clamp(min=1e-3)
        error = (gradient - expected_gradients[name]).abs().max()
        assert error < 2e-3 * largest, name


def test_scores_are_those_of_the_cpu(fitted: FusionRecommender) -> None:
    users = np.arange(USERS)
    scores, _ = fitted.rank(users, 10)
    on_device = copy.deepcopy(fitted).to(DEVICE)
    on_device.train()  # what was made on the CPU is forgotten
    on_device.eval()
    found, _ = on_device.rank(users, 10)
    np.testing.assert_allclose(found, scores, rtol=1e-3, atol=1e-3)
