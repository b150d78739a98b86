"""What a user and some items are to a model that does not know one of their modalities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fusionops.data.ids import Codes
from fusionops.models.fusion_recommender.histories import RaggedHistories
from fusionops.models.fusion_recommender.item_tower import ID, TABLE
from fusionops.models.fusion_recommender.model import FusionNetwork
from fusionops.models.fusion_recommender.user_tower import REVIEWS
from fusionops.models.interface.split_scores import WithoutModality

_OF_USERS = {REVIEWS: "user reviews", TABLE: "user table", ID: "user id"}
"""Tokens of users that are no modality of items, and names that none of those can have."""


def without_each(
    network: FusionNetwork,
    users: Tensor,
    histories: RaggedHistories,
    items: Codes,
    mapping: Tensor | None,
) -> Iterator[WithoutModality]:
    """Profiles and vectors without each modality, as presence masks have it.

    A modality of items is taken for missing in the items asked about and in those of the history,
    in their profiles and in what the user has touched; all other items are as they are.

    Parameters
    ----------
    network : FusionNetwork
    users : Tensor
        ``int64 [1]``, the code of the user.
    histories : RaggedHistories
        Of one user, over the catalogue.
    items : numpy.ndarray
        ``int64 [n]``.
    mapping : Tensor or None
        Of users, see :meth:`FusionNetwork.score_vectors`.
    """
    tower, user_tower = network.item_tower, network.user_tower
    asked = torch.from_numpy(items).to(users.device)
    rows, place = torch.unique(torch.cat([histories.items, asked]), return_inverse=True)
    local = replace(histories, items=place[: len(histories.items)])
    wanted = place[len(histories.items) :]

    def found(name: str, of_items: str | None, of_user: str | None) -> WithoutModality:
        profiles = tower(rows, without=of_items)
        profile, known = user_tower(profiles, local, tower, rows, users, without=of_user)
        vectors = profiles if mapping is not None else network.score_vectors(profiles, None)[0]
        return WithoutModality(
            name,
            network.user_vectors(profile, mapping).float().cpu().numpy(),
            known.cpu().numpy(),
            np.ascontiguousarray(vectors[wanted].float().cpu().numpy()),
        )

    for name in tower.tokens:
        yield found(name, name, f"touched:{name}")
    for token, name in _OF_USERS.items():
        if token in user_tower.tokens:
            yield found(name, None, token)
