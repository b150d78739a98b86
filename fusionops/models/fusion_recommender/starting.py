"""Training that begins at the scores of a LinearFusion."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fusionops.data.ids import IdMap
from fusionops.models.fusion_recommender.model import FusionNetwork
from fusionops.models.linear_fusion import LinearFusion


def start_from(network: FusionNetwork, start: LinearFusion, ids: IdMap) -> None:
    """Put the vectors of a LinearFusion into the ids of a network, and close the gates.

    With closed gates a profile is the id of the item, or the weighted sum of the history, alone:
    what LinearFusion scores by. Its dimensions are ordered by eigenvalue, so the first ``dim`` are
    the best that many can hold. Items without history have a vector from content there, so their
    ids say something, too.

    Raises
    ------
    TypeError, ValueError
        It is no fitted LinearFusion of the same items with ``dim`` dimensions or more, or the
        config has no place for it.
    """
    if not isinstance(start, LinearFusion):
        raise TypeError(f"start: expected a LinearFusion, got {type(start).__name__}")
    config, tower = network.config, network.item_tower
    needed = {"item_ids": True, "residual": True, "normalization": "none", "behaviour": "mean"}
    for name, value in needed.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"start: expected a config with {name} = {value!r}, got {getattr(config, name)!r}"
            )
    try:
        own = start.items.ids
    except RuntimeError:
        raise ValueError("start: expected a fitted LinearFusion, got one that is not") from None
    if own != ids:
        raise ValueError(
            f"start: expected a LinearFusion of the {len(ids)} items of the interactions, in their "
            f"order, got one of {len(own)} items"
        )
    vectors, scale = start.item_vectors, start.item_scale
    if vectors.shape[1] < config.dim:
        raise ValueError(
            f"start: expected vectors of at least dim = {config.dim}, got {vectors.shape[1]}"
        )
    assert tower.ids is not None
    with torch.no_grad():
        tower.ids.weight.copy_(torch.from_numpy(vectors[:, : config.dim].copy()))
        tower.history_scale.copy_(torch.from_numpy(scale))
        tower.id_known.fill_(True)
        for fusion in (tower.fusion, network.user_tower.fusion):
            if fusion.gate is not None:
                fusion.gate.zero_()


@torch.no_grad()
def calibrate(network: FusionNetwork, batch: Mapping[str, Tensor]) -> None:
    """Scale user profiles so that the first softmax is neither flat nor certain.

    Another model's scores rank, but are no logits. Of the powers of 2 the one with the least loss
    over a batch is taken.
    """
    projection = network.user_tower.projection.weight
    first = projection.clone()
    network.eval()
    losses = []
    for power in range(12):
        projection.copy_(first * 2**power)
        losses.append(float(network(**batch)["retrieval_loss"]))
    projection.copy_(first * 2 ** losses.index(min(losses)))
