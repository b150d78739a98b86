"""The k best of a row of scores, with ties in one order everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fusionops.data.ids import Codes

Scores = npt.NDArray[np.float32]


def top_k(
    scores: npt.NDArray[np.floating], k: int, *, columns: Codes | None = None
) -> tuple[Scores, Codes]:
    """Return the k largest entries of each row, ties by the lower column.

    Parameters
    ----------
    scores : numpy.ndarray
        Shape ``[U, P]``, compared as ``float32``. NaN and -inf never enter a list.
    k : int
        At least 1; rows with fewer are padded with score -inf and index -1.
    columns : numpy.ndarray, optional
        ``int64`` item codes of the columns, ascending, shape ``[P]``; by default ``0..P-1``.

    Returns
    -------
    scores : numpy.ndarray
        ``float32``, shape ``[U, k]``, descending.
    items : numpy.ndarray
        ``int64``, shape ``[U, k]``.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    values = np.asarray(scores, dtype=np.float32)
    n_rows, n_columns = values.shape
    width = min(k, n_columns)
    best_scores = np.full((n_rows, k), -np.inf, dtype=np.float32)
    best_items = np.full((n_rows, k), -1, dtype=np.int64)
    if width:
        keys = _keys(values)
        # Distinct keys make the partition's choice among equal scores ours and not the algorithm's.
        keys = np.partition(keys, width - 1, axis=1)[:, :width]
        keys.sort(axis=1)
        index = keys & 0xFFFFFFFF
        found = np.take_along_axis(values, index, axis=1)
        valid = found > -np.inf
        best_scores[:, :width] = np.where(valid, found, -np.inf)
        best_items[:, :width] = np.where(valid, index if columns is None else columns[index], -1)
    return best_scores, best_items


def _keys(values: Scores) -> Codes:
    """int64 keys that sort by score descending, then by column ascending."""
    values = np.where(np.isnan(values), np.float32(-np.inf), values) + np.float32(
        0.0
    )  # -0.0 equals 0.0
    bits = values.view(np.int32).astype(np.int64)
    ascending = np.where(
        bits < 0, bits ^ 0x7FFFFFFF, bits
    )  # the order of IEEE floats as that of integers
    return (-ascending << 32) + np.arange(values.shape[1])
