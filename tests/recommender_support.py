"""A small shop with planted tastes, networks filled at random, and fits that take a moment."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fusionops.data import IdMap, Interactions
from fusionops.data.encoded import Encoded
from fusionops.models.fusion_recommender import FusionRecommender, FusionRecommenderConfig
from fusionops.models.fusion_recommender.histories import RaggedHistories
from fusionops.models.fusion_recommender.model import FusionNetwork

QUICK: dict[str, Any] = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 16,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}
TINY: dict[str, Any] = {"dim": 8, "num_heads": 2}
N_USERS, N_ITEMS, N_COLD, N_TASTES = 48, 36, 4, 4


def item_ids(count: int, first: int = 0) -> list[str]:
    return [f"i{code:02d}" for code in range(first, first + count)]


def shop(*, events: bool = False, cold: int = N_COLD, seed: int = 0) -> Interactions:
    """User u and item i have the tastes u % 4 and i % 4; four of five choices are of the own one.

    The last few items are never chosen.
    """
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(N_USERS), 7)
    taste = np.where(rng.random(len(user)) < 0.8, user, rng.integers(0, N_TASTES, len(user)))
    item = rng.integers(0, (N_ITEMS - cold) // N_TASTES, len(user)) * N_TASTES + taste % N_TASTES
    item[: N_ITEMS - cold] = np.arange(N_ITEMS - cold)
    start = np.datetime64("2024-01-01", "ns")
    return Interactions(
        user=user,
        item=item,
        users=IdMap([f"u{code:02d}" for code in range(N_USERS)]),
        items=IdMap(item_ids(N_ITEMS)),
        time=start + np.arange(len(user)) * np.timedelta64(5, "h"),
        event=rng.choice(["buy", "view"], len(user)) if events else None,
    )


def encoded(ids: IdMap, width: int = 6, *, missing: tuple[int, ...] = (), seed: int = 1) -> Encoded:
    """Vectors around one centre a taste; NaN stands where nothing is present."""
    centres = np.random.default_rng(7).normal(size=(N_TASTES, width)) * 2
    noise = np.random.default_rng(seed).normal(size=(len(ids), width)) * 0.3
    tastes = np.array([int(str(value)[1:]) % N_TASTES for value in ids.ids.tolist()])
    vectors = (centres[tastes] + noise).astype(np.float32)
    present = np.ones(len(ids), dtype=bool)
    present[list(missing)] = False
    vectors[~present] = np.nan
    return Encoded(ids, vectors, present)


def fitted(
    interactions: Interactions,
    *,
    arguments: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    **choices: Any,
) -> FusionRecommender:
    """A recommender of a few numbers, trained for an epoch unless ``arguments`` say otherwise."""
    model = FusionRecommender(**{**TINY, **choices})
    return model.fit(interactions, **(inputs or {}), arguments={**QUICK, **(arguments or {})})


def network(seed: int = 0, **choices: Any) -> FusionNetwork:
    """A network whose parameters and buffers are drawn at random, in evaluation mode."""
    sizes = {"num_items": 11, "num_users": 5, "item_features": {"text": 5, "image": 3}}
    built = FusionNetwork(FusionRecommenderConfig(**{**TINY, **sizes, **choices}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in [*built.parameters(), *built.buffers()]:
            if value.dtype == torch.bool:
                value.copy_(torch.rand(value.shape, generator=generator) < 0.6)
            elif value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator) * 0.5)
        built.item_tower.history_scale.uniform_(0.5, 1.5, generator=generator)
        if built.user_tower.reviews is not None:
            count = built.config.num_reviews
            cuts = torch.linspace(0, count, built.config.num_users + 1).long()
            built.user_tower.reviews.offsets.copy_(cuts)
    return built.eval()


def histories(*items: list[int], n_events: int = 0) -> RaggedHistories:
    """Histories of given items, with weights and kinds of event that differ."""
    flat = torch.tensor([item for one in items for item in one], dtype=torch.long)
    lengths = torch.tensor([0, *map(len, items)])
    weights = torch.linspace(0.4, 1.3, len(flat))
    kinds = torch.arange(len(flat)) % n_events if n_events else None
    return RaggedHistories(flat, lengths.cumsum(0), weights, kinds)
