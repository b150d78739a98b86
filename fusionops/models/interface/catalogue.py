"""What a fit is given, checked, and put into the order of the catalogue."""

from __future__ import annotations

import warnings

import numpy as np

from fusionops.data.ids import IdMap
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.data.report import InputWarning
from fusionops.data.users import Users


def check_interactions(interactions: Interactions) -> None:
    """TypeError or ValueError where there is nothing to learn from."""
    if not isinstance(interactions, Interactions):
        raise TypeError(
            f"interactions: expected Interactions, got {type(interactions).__name__}; "
            "make them with Interactions.from_table"
        )
    if len(interactions) == 0:
        raise ValueError("interactions: expected at least one row, got none")
    low = float(interactions.weight.min())
    if not (np.isfinite(interactions.weight).all() and low >= 0):
        raise ValueError(f"interactions: expected finite weights of at least 0, got {low}")
    if not interactions.weight.any():
        raise ValueError("interactions: expected a weight above 0, got none")


def catalogue_of(ids: IdMap, items: Items | None) -> Items:
    """The items of the catalogue in the order of their codes, missing rows empty."""
    if items is None:
        return Items(ids)
    if not isinstance(items, Items):
        raise TypeError(
            f"items: expected Items, got {type(items).__name__}; make them with Items.from_table"
        )
    if items.ids is ids:
        return items
    check_kind("items", items.ids, ids)
    missing = np.flatnonzero(items.ids.encode(ids.ids, unknown="mark") < 0)
    if len(missing):
        warnings.warn(
            f"items: {len(missing)} of the {len(ids)} items of the interactions have no row, for "
            f"example {ids.ids[missing[0]].item()!r}; they are used without content",
            InputWarning,
            stacklevel=4,
        )
    return items.take(ids, missing="empty")


def users_of(ids: IdMap, users: Users | None) -> Users | None:
    """The users in the order of their codes, missing rows empty."""
    if users is None:
        return None
    if not isinstance(users, Users):
        raise TypeError(f"users: expected Users, got {type(users).__name__}")
    check_kind("users", users.ids, ids)
    return users.take(ids, missing="empty")


def check_kind(argument: str, ids: IdMap, known: IdMap) -> None:
    """TypeError for ids that are strings where those known are integers, or the other way round."""
    got, expected = ("strings" if one.ids.dtype.kind == "U" else "integers" for one in (ids, known))
    if got != expected and len(ids) and len(known):
        raise TypeError(
            f"{argument}: expected ids that are {expected}, as those of the interactions, got {got}"
        )
