"""What a FusionRecommender knows besides its parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import Codes, IdMap
from fusionops.data.items import Items
from fusionops.models.interface.histories import Histories
from fusionops.models.interface.tables import items_from_json, items_to_json

Floats = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Shelf:
    """A catalogue and the users that a model was fitted on; see ``interface.recommender.Shelf``.

    Attributes
    ----------
    users : IdMap
    items : Items
    histories : Histories
    users_per_item : numpy.ndarray
        ``int64 [P]``.
    vectors : numpy.ndarray
        ``float32 [P, D]``; of no rows until they are made, once training is over.
    """

    users: IdMap
    items: Items
    histories: Histories
    users_per_item: Codes
    vectors: Floats

    @property
    def popularity(self) -> Floats:
        """The number of users of each item, ``float32 [P]``."""
        return self.users_per_item.astype(np.float32)

    def with_items(self, added: Items) -> Shelf:
        """The shelf with more items behind the catalogue, none of which has history."""
        return replace(
            self,
            items=self.items.append(added),
            users_per_item=np.concatenate([self.users_per_item, np.zeros(len(added), np.int64)]),
        )

    def to_parts(self) -> tuple[dict[str, Any], Arrays]:
        """What JSON holds and what safetensors hold, for :meth:`from_parts`."""
        arrays = {**self.histories.to_arrays(), "items.users": self.users_per_item}
        tables = {
            "users": self.users.ids.tolist(),
            "items": items_to_json(self.items),
            "ordered": self.histories.ordered,
        }
        return tables, arrays

    @classmethod
    def from_parts(cls, tables: dict[str, Any], arrays: Arrays) -> Shelf:
        """The inverse of :meth:`to_parts`."""
        histories = Histories.from_arrays(arrays, ordered=tables["ordered"])
        return cls(
            IdMap(tables["users"]),
            items_from_json(tables["items"]),
            histories,
            arrays["items.users"],
            np.empty((0, 0), np.float32),
        )
