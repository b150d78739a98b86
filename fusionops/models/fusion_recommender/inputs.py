"""What ``fit`` is given, put in the order of the catalogue and into the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fusionops.data.encoded import Encoded
from fusionops.data.ids import Codes, IdMap
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.data.reviews import Reviews
from fusionops.data.users import Users
from fusionops.models.encoders.table import TableEncoder
from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.models.fusion_recommender.item_tower import ID, TABLE
from fusionops.models.fusion_recommender.model import FusionNetwork
from fusionops.models.interface.catalogue import (
    catalogue_of,
    check_interactions,
    check_kind,
    users_of,
)


@dataclass(frozen=True)
class Inputs:
    """All that a model is fitted on.

    Attributes
    ----------
    interactions : Interactions
    items : Items
        In the order of the catalogue.
    features : dict of str to Encoded
        In the order of the catalogue, missing where nothing was given.
    users : Users or None
        In the order of the users.
    reviews : tuple of Reviews and Encoded, or None
        The vectors are of the rows of the reviews.
    """

    interactions: Interactions
    items: Items
    features: Mapping[str, Encoded] = field(default_factory=dict)
    users: Users | None = None
    reviews: tuple[Reviews, Encoded] | None = None

    @classmethod
    def checked(
        cls,
        interactions: Interactions,
        items: Items | None,
        features: Mapping[str, Encoded] | None,
        users: Users | None,
        reviews: tuple[Reviews, Encoded] | None,
    ) -> Inputs:
        """The inputs in order, or TypeError or ValueError with the name of the argument."""
        check_interactions(interactions)
        if len(interactions.items) < 2:
            raise ValueError(
                f"interactions: expected at least two items, got {len(interactions.items)}"
            )
        return cls(
            interactions,
            catalogue_of(interactions.items, items),
            features_in_order(features, interactions.items),
            users_of(interactions.users, users),
            None if reviews is None else _checked_reviews(reviews, interactions),
        )

    def sizes(self, config: FusionRecommenderConfig) -> None:
        """Write what the data decide into a config."""
        config.num_items, config.num_users = len(self.items), len(self.interactions.users)
        config.item_features = {name: part.width for name, part in self.features.items()}
        config.item_columns = config.user_columns = None
        if config.item_table and (self.items.numeric or self.items.categorical):
            config.item_columns = TableEncoder.columns_of(self.items)
        users = self.users
        if config.user_table and users is not None and (users.numeric or users.categorical):
            config.user_columns = TableEncoder.columns_of(users)
        config.review_width = config.num_reviews = 0
        if self.reviews is not None:
            config.review_width = self.reviews[1].width
            config.num_reviews = len(self.reviews[1])
        events = self.interactions.event
        config.events = [] if events is None else np.unique(events).tolist()
        nothing = not (config.item_features or config.item_columns or config.item_ids)
        if nothing:
            raise ValueError(
                "features: expected a modality of the items, or items with numeric or categorical "
                "columns, as item_ids is False; got neither"
            )

    def fill(self, network: FusionNetwork, users_per_item: Codes) -> None:
        """Put features, tables and reviews into the buffers of a network."""
        tower = network.item_tower
        fill_items(network, self.items, self.features, slice(None))
        has_history = torch.from_numpy(users_per_item > 0)
        tower.has_history.copy_(has_history)
        tower.id_known.copy_(has_history)
        count = torch.from_numpy(users_per_item).float()
        # As LinearFusion's item_exponent: a common item says less of who has it.
        tower.history_scale.copy_(count.clamp(min=1) ** -0.25)
        network.log_popularity.copy_(count.clamp(min=1).log())
        user_tower = network.user_tower
        if user_tower.table is not None and self.users is not None:
            numeric, categorical = user_tower.table.rows_of(self.users)
            user_tower.numeric.copy_(numeric)
            user_tower.categorical.copy_(categorical)
        if user_tower.reviews is not None and self.reviews is not None:
            reviews, encoded = self.reviews
            order, offsets = reviews_by_user(reviews)
            part = user_tower.reviews
            part.vectors.copy_(torch.from_numpy(encoded.vectors[order]))
            part.present.copy_(torch.from_numpy(encoded.present[order]))
            part.offsets.copy_(torch.from_numpy(offsets))
            part.ratings.copy_(torch.from_numpy(_standardised(reviews.rating[order])))


def fill_items(
    network: FusionNetwork, items: Items, features: Mapping[str, Encoded], rows: slice
) -> None:
    """Put what is known of some items into the rows of the item buffers."""
    tower = network.item_tower
    for name, part in features.items():
        tower.features(name)[rows] = torch.from_numpy(part.vectors)
        tower.presence(name)[rows] = torch.from_numpy(part.present)
    if tower.table is not None:
        numeric, categorical = tower.table.rows_of(items)
        tower.numeric[rows] = numeric
        tower.categorical[rows] = categorical


def features_in_order(features: Mapping[str, Encoded] | None, ids: IdMap) -> dict[str, Encoded]:
    """Features of the catalogue, row p of item p, missing where nothing was given."""
    if features is not None and not isinstance(features, Mapping):
        raise TypeError(
            f"features: expected a mapping of modalities to Encoded, got {type(features).__name__}"
        )
    found = {}
    for name, part in (features or {}).items():
        # What an attribute of a ModuleDict is called, no module in it can be.
        taken = name in (ID, TABLE) or hasattr(nn.ModuleDict, str(name))
        if taken or not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"features: expected names such as 'text', got {name!r}")
        if not isinstance(part, Encoded):
            raise TypeError(f"features[{name!r}]: expected Encoded, got {type(part).__name__}")
        check_kind(f"features[{name!r}]", part.ids, ids)
        found[name] = part.take(ids, missing="empty")
        if not found[name].present.any():
            raise ValueError(
                f"features[{name!r}]: expected vectors of some of the {len(ids)} items, "
                f"got none of them among {len(part)} ids"
            )
    return found


def reviews_by_user(reviews: Reviews) -> tuple[Codes, Codes]:
    """The rows of the reviews by user, and ``offsets [U + 1]``."""
    count = np.bincount(reviews.user, minlength=len(reviews.users))
    return np.argsort(reviews.user, kind="stable"), np.concatenate([[0], np.cumsum(count)])


def _checked_reviews(
    reviews: tuple[Reviews, Encoded], interactions: Interactions
) -> tuple[Reviews, Encoded]:
    if not (
        isinstance(reviews, tuple)
        and len(reviews) == 2
        and isinstance(reviews[0], Reviews)
        and isinstance(reviews[1], Encoded)
    ):
        raise TypeError(
            "reviews: expected a pair of Reviews and Encoded, the vectors of its rows, "
            f"got {type(reviews).__name__}"
        )
    table, encoded = reviews
    if len(table) != len(encoded):
        raise ValueError(
            f"reviews: expected a vector for each of the {len(table)} reviews, got {len(encoded)}"
        )
    if table.users != interactions.users or table.items != interactions.items:
        raise ValueError(
            "reviews: expected the users and items of the interactions; make them with "
            "Reviews.from_table(..., users=interactions.users, items=interactions.items)"
        )
    return table, encoded


def _standardised(ratings: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    known = np.isfinite(ratings)
    if not known.any():
        return np.zeros(len(ratings), np.float32)
    deviation = ratings[known].std() or 1.0
    scaled = (ratings - ratings[known].mean()) / deviation
    return np.where(known, scaled, 0).astype(np.float32)
