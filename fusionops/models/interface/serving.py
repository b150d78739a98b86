"""Lists from profiles: the project's top-k operator, and popularity for those without one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

import fusionops
from fusionops.data.ids import Codes, IdMap

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_USERS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Limits:
    """Who may be recommended to whom.

    Attributes
    ----------
    allowed : numpy.ndarray or None
        ``bool [P]``, for all users.
    exclude, candidates : scipy.sparse.csr_array or None
        ``[U, P]``; every stored entry counts, whatever its value.
    """

    allowed: Mask | None = None
    exclude: sparse.csr_array | None = None
    candidates: sparse.csr_array | None = None

    def of(self, users: npt.NDArray[np.integer] | slice) -> Limits:
        """The limits of some of the users."""
        exclude = None if self.exclude is None else self.exclude[users]
        candidates = None if self.candidates is None else self.candidates[users]
        return Limits(self.allowed, exclude, candidates)


def top_k(
    user: Floats, item: Floats, k: int, limits: Limits, *, normalization: str = "none"
) -> tuple[Floats, Codes]:
    """The k best items of each profile.

    Parameters
    ----------
    user, item : numpy.ndarray
        ``float32 [U, D]`` and ``[P, D]``.
    normalization : str
        As for :func:`fusionops.fusion_topk`.

    Returns
    -------
    scores, items : numpy.ndarray
        ``float32`` and ``int64 [U, k]``; ties by the lower code, padded with -inf and -1.
    """
    scores = np.empty((len(user), k), np.float32)
    items = np.empty((len(user), k), np.int64)
    item_tensor = torch.from_numpy(item)
    allowed = None if limits.allowed is None else torch.from_numpy(limits.allowed)
    for start in range(0, len(user), _USERS_AT_A_TIME):
        rows = slice(start, start + _USERS_AT_A_TIME)
        part = limits.of(rows)
        best, index = fusionops.fusion_topk(
            torch.from_numpy(user[rows]),
            item_tensor,
            k,
            normalization=normalization,
            exclude=_ragged(part.exclude),
            allowed=allowed,
            candidates=_ragged(part.candidates),
        )
        scores[rows], items[rows] = best.numpy(), index.numpy()
    return scores, items


def top_k_or_popular(
    user: Floats, has_profile: Mask, item: Floats, popularity: Floats, k: int, limits: Limits
) -> tuple[Floats, Codes]:
    """As :func:`top_k`, with users that have no profile served by popularity, ``float32 [P]``."""
    scores = np.empty((len(user), k), np.float32)
    items = np.empty((len(user), k), np.int64)
    known, unknown = np.flatnonzero(has_profile), np.flatnonzero(~has_profile)
    if len(known):
        scores[known], items[known] = top_k(user[known], item, k, limits.of(known))
    if len(unknown):
        ones = np.ones((len(unknown), 1), np.float32)
        scores[unknown], items[unknown] = top_k(ones, popularity[:, None], k, limits.of(unknown))
    return scores, items


def _ragged(rows: sparse.csr_array | None) -> tuple[torch.Tensor, torch.Tensor] | None:
    if rows is None:
        return None
    return (
        torch.from_numpy(rows.indptr.astype(np.int64)),
        torch.from_numpy(rows.indices.astype(np.int64)),
    )


def item_lists(
    argument: str, value: Any, users: Sequence[Any], items: IdMap
) -> Codes | sparse.csr_array:
    """Item ids for everyone, as codes, or a mapping of user to item ids, as a matrix ``[U, P]``.

    Raises
    ------
    KeyError
        An item, or a user of the mapping, is not there, or ``candidates`` lacks a user.
    """
    if not isinstance(value, Mapping):
        return item_codes(argument, value, items)
    row_of = {user: row for row, user in enumerate(users)}
    strangers = [user for user in value if user not in row_of]
    if strangers:
        raise KeyError(
            f"{argument}: expected users of this call, got {len(strangers)} others, "
            f"for example {strangers[0]!r}"
        )
    if argument == "candidates" and len(value) < len(row_of):
        lacking = next(user for user in users if user not in value)
        raise KeyError(f"candidates: expected a list for every user, got none for {lacking!r}")
    rows: list[Codes] = [np.empty(0, np.int64)] * len(users)
    for user, ids in value.items():
        rows[row_of[user]] = np.unique(item_codes(argument, ids, items))
    lengths = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    indices = np.concatenate([np.empty(0, np.int64), *rows])
    ones = np.ones(len(indices), np.float32)
    return sparse.csr_array((ones, indices, lengths), shape=(len(users), len(items)))


def item_codes(argument: str, ids: Any, items: IdMap) -> Codes:
    """The codes of item ids, with the name of the argument in the error."""
    if isinstance(ids, (str, bytes)):
        raise TypeError(f"{argument}: expected a sequence of item ids, got the string {ids!r}")
    if not isinstance(ids, Iterable):
        raise TypeError(f"{argument}: expected a sequence of item ids, got {ids!r}")
    values = ids if isinstance(ids, np.ndarray) else list(ids)
    if len(values) == 0:
        return np.empty(0, np.int64)
    try:
        return items.encode(values)
    except (KeyError, TypeError) as error:
        raise type(error)(f"{argument}: {error.args[0]}") from None


def union(left: sparse.csr_array | None, right: sparse.csr_array | None) -> sparse.csr_array | None:
    """The entries stored in either matrix."""
    if left is None or right is None:
        return right if left is None else left
    joined = _ones(left) + _ones(right)
    joined.sort_indices()
    return joined


def _ones(matrix: sparse.csr_array) -> sparse.csr_array:
    ones = np.ones(len(matrix.indices), np.float32)
    return sparse.csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)
