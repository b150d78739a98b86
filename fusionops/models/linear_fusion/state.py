"""What a fitted model knows, and how it comes to know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fusionops.data.encoded import Encoded
from fusionops.data.ids import Codes, IdMap
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.models.interface.catalogue import catalogue_of, check_interactions
from fusionops.models.interface.histories import Histories
from fusionops.models.interface.tables import items_from_json, items_to_json
from fusionops.models.linear_fusion.behaviour import (
    dense_item_vectors,
    item_scales,
    scaled_histories,
    streamed_item_vectors,
)
from fusionops.models.linear_fusion.cold import ColdItems, under
from fusionops.models.linear_fusion.content import (
    Content,
    ContentFeatures,
    checked,
    checked_added,
)
from fusionops.models.linear_fusion.landmarks import Landmarks
from fusionops.models.linear_fusion.parameters import Parameters

Floats = npt.NDArray[np.float32]

_NEW = "new.features."  # before the names of the arrays of items without history


@dataclass(frozen=True)
class State:
    """A fitted model.

    Attributes
    ----------
    users : IdMap
    items : Items
        The catalogue with its columns; code p is row p of every item array.
    histories : Histories
        The training rows of ``users``.
    vectors : numpy.ndarray
        ``float32 [P, rank]``, the item side of every score.
    item_scale : numpy.ndarray
        ``float32 [P]``, with which an item enters a profile.
    users_per_item : numpy.ndarray
        ``int64 [P]``; 0 for items without history.
    popularity : numpy.ndarray
        ``float32 [P]``: the number of users; below 1 what content lets expect of the others.
    cold : ColdItems or None
        None where items have no content.
    new : ContentFeatures or None
        Of the items without history, in the order of their codes: what their scores rest on.
    """

    users: IdMap
    items: Items
    histories: Histories
    vectors: Floats
    item_scale: Floats
    users_per_item: Codes
    popularity: Floats
    cold: ColdItems | None
    new: ContentFeatures | None

    @property
    def warm(self) -> Codes:
        """The codes of the items with history."""
        return np.flatnonzero(self.users_per_item)

    def profiles(self, pairs: sparse.csr_array) -> Floats:
        """User vectors ``[U, rank]``: the weighted sum of the items of each history, ``[U, P]``."""
        weighted = pairs.copy()
        weighted.data = weighted.data * self.item_scale[weighted.indices]
        return np.ascontiguousarray(weighted @ self.vectors, dtype=np.float32)

    def with_items(
        self, added: Items, features: Mapping[str, Encoded] | None, parameters: Parameters
    ) -> State:
        """The state with more items behind the catalogue, none of which has history."""
        warm = self.warm
        modalities = () if self.cold is None else self.cold.content.modalities
        encoded = checked_added(features, added.ids, modalities)
        new = None if self.cold is None else self.cold.content.features(added, encoded)
        vectors, popularity = _cold_arrays(
            self.cold, new, len(added), self.vectors[warm], self.users_per_item[warm], parameters
        )
        none = np.zeros(len(added), np.int64)
        return replace(
            self,
            items=self.items.append(added),
            vectors=np.concatenate([self.vectors, vectors]),
            item_scale=np.concatenate([self.item_scale, item_scales(none, parameters)]),
            users_per_item=np.concatenate([self.users_per_item, none]),
            popularity=np.concatenate([self.popularity, popularity]),
            new=new if self.new is None or new is None else self.new.append(new),
        )

    def to_parts(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """A small dict, a large dict and arrays, for :meth:`from_parts`."""
        cold, arrays = (None, {}) if self.cold is None else self.cold.state()
        arrays |= {
            "items.vectors": self.vectors,
            "items.scale": self.item_scale,
            "items.users": self.users_per_item,
            "items.popularity": self.popularity,
            **self.histories.to_arrays(),
        }
        if self.new is not None:
            arrays |= {f"{_NEW}{name}": array for name, array in self.new.to_arrays().items()}
        tables = {"users": self.users.ids.tolist(), "items": items_to_json(self.items)}
        return {"cold": cold, "ordered": self.histories.ordered}, tables, arrays

    @classmethod
    def from_parts(
        cls, config: dict[str, Any], tables: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]
    ) -> State:
        """The inverse of :meth:`to_parts`."""
        histories = Histories.from_arrays(arrays, ordered=config["ordered"])
        new = under(_NEW, arrays)
        return cls(
            IdMap(tables["users"]),
            items_from_json(tables["items"]),
            histories,
            arrays["items.vectors"],
            arrays["items.scale"],
            arrays["items.users"],
            arrays["items.popularity"],
            None if config["cold"] is None else ColdItems.from_state(config["cold"], arrays),
            ContentFeatures.from_arrays(new) if new else None,
        )


def fit_state(
    interactions: Interactions,
    items: Items | None,
    features: Mapping[str, Encoded] | None,
    parameters: Parameters,
) -> State:
    """Fit on interactions over the catalogue ``interactions.items``; see :class:`LinearFusion`."""
    check_interactions(interactions)
    histories = Histories.from_interactions(interactions)
    catalogue = catalogue_of(interactions.items, items)
    encoded = checked(features, catalogue.ids)
    pairs = histories.pairs(len(catalogue))
    pairs.eliminate_zeros()
    users_per_item = np.bincount(pairs.indices, minlength=len(catalogue)).astype(np.int64)
    warm = np.flatnonzero(users_per_item)
    warm_items = catalogue.take(IdMap(catalogue.ids.ids[warm]))
    scaled, warm_scale = scaled_histories(pairs[:, warm], parameters)
    warm_vectors, cold = _fit_warm(scaled, warm_items, encoded, users_per_item[warm], parameters)

    vectors = np.empty((len(catalogue), warm_vectors.shape[1]), np.float32)
    item_scale = np.ones(len(catalogue), np.float32)
    popularity = users_per_item.astype(np.float32)
    vectors[warm], item_scale[warm] = warm_vectors, warm_scale
    rest = np.flatnonzero(users_per_item == 0)
    new = None
    if cold is not None:
        new = cold.content.features(catalogue.take(IdMap(catalogue.ids.ids[rest])), encoded)
    if len(rest):
        vectors[rest], popularity[rest] = _cold_arrays(
            cold, new, len(rest), warm_vectors, users_per_item[warm], parameters
        )
    return State(
        interactions.users,
        catalogue,
        histories,
        vectors,
        item_scale,
        users_per_item,
        popularity,
        cold,
        new,
    )


def _fit_warm(
    scaled: sparse.csr_array,
    items: Items,
    encoded: Mapping[str, Encoded],
    users_per_item: Codes,
    parameters: Parameters,
) -> tuple[Floats, ColdItems | None]:
    """Vectors of the items with history, and the map from content to vectors."""
    dense = len(items) <= parameters.dense_items
    content = Content.fit(
        items,
        parameters.content,
        encoded=encoded,
        numeric=parameters.numeric,
        weights=parameters.weights,
    )
    features = None if content is None else content.features(items, encoded)
    kernel: Floats | Landmarks | None = None
    if content is not None and features is not None:
        kernel = content.kernel(features, features) if dense else Landmarks(content, features)
    if dense:
        assert not isinstance(kernel, Landmarks)
        vectors = dense_item_vectors(scaled, kernel, parameters)
    else:
        assert not isinstance(kernel, np.ndarray)
        vectors = streamed_item_vectors(scaled, kernel, parameters)
    if content is None or features is None or kernel is None:
        return vectors, None
    return vectors, ColdItems.fit(content, features, kernel, vectors, users_per_item)


def _cold_arrays(
    cold: ColdItems | None,
    features: ContentFeatures | None,
    count: int,
    warm_vectors: Floats,
    users_per_item: Codes,
    parameters: Parameters,
) -> tuple[Floats, Floats]:
    """Vectors and expected popularity, in [0, 1), of items without history."""
    if cold is None or features is None:
        mean = np.float32(parameters.cold_factor) * warm_vectors.mean(axis=0)
        return np.tile(mean, (count, 1)), np.zeros(count, np.float32)
    vectors, log = cold.vectors(features, warm_vectors, parameters)
    # An item that nobody has yet comes behind every item that somebody has.
    largest = np.float32(np.log1p(users_per_item.max()))
    return vectors, np.clip(log, 0, largest) / (largest + 1)
