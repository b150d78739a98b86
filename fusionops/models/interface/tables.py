"""Ids and item columns as plain JSON values, and recommendations as a pyarrow table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionops.data.ids import Codes, IdMap
from fusionops.data.items import Items

HOW = ("history", "content", "popularity")


def lists_table(
    users: npt.NDArray[Any],
    items: IdMap,
    scores: npt.NDArray[np.float32],
    codes: Codes,
    how: npt.NDArray[np.integer],
) -> pa.Table:
    """Lists as rows: user, item, rank from 1, score, how.

    Parameters
    ----------
    users : numpy.ndarray
        Ids, shape ``[U]``.
    scores, codes, how : numpy.ndarray
        ``[U, k]``; how indexes :data:`HOW`, and rows of code -1 are left out.
    """
    row, place = np.nonzero(codes >= 0)
    return pa.table(
        {
            "user": pa.array(users[row]),
            "item": pa.array(items.decode(codes[row, place])),
            "rank": pa.array(place + 1, pa.int64()),
            "score": pa.array(scores[row, place], pa.float32()),
            "how": how_column(how[row, place]),
        }
    )


def how_column(how: npt.NDArray[np.integer]) -> pa.Array:
    """Indices into :data:`HOW` as a column of text."""
    return pa.array(np.array(HOW)[how], pa.string())


def items_to_json(items: Items) -> dict[str, Any]:
    """The columns by kind; missing numbers become null."""
    return {
        "ids": items.ids.ids.tolist(),
        "text": items.text,
        "numeric": {
            name: [None if np.isnan(value) else value for value in column.tolist()]
            for name, column in items.numeric.items()
        },
        "categorical": {name: column.tolist() for name, column in items.categorical.items()},
        "media": items.media,
    }


def items_from_json(value: dict[str, Any]) -> Items:
    """The inverse of :func:`items_to_json`."""
    return Items(
        IdMap(value["ids"]),
        value["text"],
        {
            name: np.array([np.nan if v is None else v for v in column], np.float64)
            for name, column in value["numeric"].items()
        },
        {name: np.array(column, object) for name, column in value["categorical"].items()},
        value["media"],
    )


def similar_table(
    items: IdMap, codes: Codes, scores: npt.NDArray[np.float32], similar: Codes
) -> pa.Table:
    """Neighbours as rows: item, similar, rank from 1, score; rows of code -1 are left out."""
    row, place = np.nonzero(similar >= 0)
    return pa.table(
        {
            "item": pa.array(items.decode(codes[row])),
            "similar": pa.array(items.decode(similar[row, place])),
            "rank": pa.array(place + 1, pa.int64()),
            "score": pa.array(scores[row, place], pa.float32()),
        }
    )
