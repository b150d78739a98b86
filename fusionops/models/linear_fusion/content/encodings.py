"""The ``features`` argument: vectors of encoders, checked against the items they are for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusionops.data.encoded import Encoded
from fusionops.data.ids import Codes, IdMap
from fusionops.data.report import InputWarning
from fusionops.models.linear_fusion.content.modality import Modality


def checked(features: Any, items: IdMap) -> dict[str, Encoded]:
    """The vectors by modality; none is no modality.

    Parameters
    ----------
    features : mapping of str to Encoded, or None
        What a user gave.
    items : IdMap
        The items that they are for.

    Raises
    ------
    TypeError
        It is something else.
    ValueError
        The vectors are of other things: of none of the items.
    """
    if features is None:
        return {}
    if not isinstance(features, Mapping):
        raise TypeError(
            f"features: expected a mapping of modality to Encoded, got {type(features).__name__}"
        )
    for name, encoded in features.items():
        if not isinstance(name, str):
            raise TypeError(f"features: expected modalities as str, got {name!r}")
        if not isinstance(encoded, Encoded):
            raise TypeError(
                f"features[{name!r}]: expected fusionops.data.Encoded, got {type(encoded).__name__}"
            )
        absent = np.flatnonzero(_codes(encoded.ids, items) < 0)
        if len(absent) == len(items) > 0:
            raise ValueError(
                f"features[{name!r}]: expected the ids of items, such as {_shown(items)}, "
                f"got none of them but such as {_shown(encoded.ids)}"
            )
        if len(absent):
            warnings.warn(
                f"features[{name!r}]: {len(absent)} of the {len(items)} items have no row, for "
                f"example {items.ids[absent[0]]!r}; they are used without it",
                InputWarning,
                stacklevel=4,
            )
    return dict(features)


def checked_added(
    features: Any, items: IdMap, modalities: Sequence[Modality]
) -> dict[str, Encoded]:
    """As :func:`checked`, for items that join a model with these modalities.

    Raises
    ------
    ValueError
        A modality that the model was fitted without, or vectors of another width.
    """
    encoded = checked(features, items)
    widths = {one.name: len(one.mean) for one in modalities}
    for name, one in encoded.items():
        if name not in widths:
            listed = ", ".join(map(repr, widths)) or "none"
            raise ValueError(
                f"features: expected the modalities of the fit ({listed}), got {name!r}"
            )
        if one.width != widths[name]:
            raise ValueError(
                f"features[{name!r}]: expected vectors of {widths[name]} features as in the fit, "
                f"got {one.width}"
            )
    lacking = [name for name in widths if name not in encoded]
    if lacking:
        warnings.warn(
            f"features: the model was fitted with {', '.join(map(repr, lacking))}, and the added "
            "items come without; what they are like is taken from the rest",
            InputWarning,
            stacklevel=4,
        )
    return encoded


def _codes(ids: IdMap, wanted: IdMap) -> Codes:
    """The rows of the wanted ids, -1 for what is not there, as an integer among texts."""
    if ids.ids.dtype.kind != wanted.ids.dtype.kind:
        return np.full(len(wanted), -1)
    return ids.encode(wanted.ids, unknown="mark")


def _shown(ids: IdMap) -> str:
    return repr(ids.ids[0].item()) if len(ids) else "none"
