"""A prepared item side on NumPy arrays: search without torch.

The normalisation is applied once, when the catalogue is built; a search is then one pass of the
top-k kernel. This version holds float32 vectors in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops import _native

_NORMALIZATIONS = ("diagonal", "matrix", "cosine", "none")


class Catalog:
    """Items by id, ready to be searched. Make one with :meth:`build`.

    Attributes
    ----------
    ids : numpy.ndarray
        ``[P]``, integers or strings, in order of insertion. Ties follow that order.
    normalization : str
        The normalisation that scores are computed in.
    """

    def __init__(
        self,
        vectors: npt.NDArray[np.float32],
        ids: npt.NDArray[Any],
        normalization: str,
        user_map: npt.NDArray[np.float32] | None,
    ) -> None:
        self.ids = ids
        self.normalization = normalization
        self._vectors = vectors
        self._user_map = user_map
        self._code = {id_: code for code, id_ in enumerate(ids.tolist())}

    @classmethod
    def build(
        cls,
        vectors: npt.ArrayLike,
        ids: Sequence[Any] | npt.NDArray[Any] | None = None,
        *,
        normalization: str = "diagonal",
        power: float = 0.5,
        ridge: float = 0.0,
        eps: float = 0.0,
    ) -> Catalog:
        """Prepare a catalogue.

        Parameters
        ----------
        vectors : array_like
            ``[P, D]``, one row an item; a CPU tensor is taken without a copy. Computed in float32.
        ids : sequence of int or of str, optional
            ``[P]``, unique; by default ``0 .. P - 1``.
        normalization, power, ridge, eps
            As for :func:`fusionops.fusion_matrix`.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong kind, shape or range, and ids that are not unique.
        """
        items = _matrix("vectors", vectors)
        _check_norm(normalization, power, ridge, eps)
        names = _ids(ids, len(items))
        user_map = None
        if normalization == "matrix":
            user_map = _gram_power(items, power, ridge)
        elif normalization in ("diagonal", "cosine"):
            items = items * _native.inverse_norm(items, eps)[:, None]
        return cls(np.ascontiguousarray(items), names, normalization, user_map)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        count, width = self._vectors.shape
        return f"Catalog({count} items, {width} features, normalization={self.normalization!r})"

    def search(
        self,
        user: npt.ArrayLike,
        k: int,
        exclude: Sequence[Sequence[Any]] | None = None,
        allowed: Sequence[Any] | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """The k best items of every user.

        Parameters
        ----------
        user : array_like
            ``[U, D]``.
        k : int
            Length of the lists, at least 1.
        exclude : sequence of sequences of ids, optional
            One sequence a user: what may not be returned to that user.
        allowed : sequence of ids, optional
            What may be returned at all.

        Returns
        -------
        scores : numpy.ndarray
            ``[U, k]`` float32, descending; -inf where there are fewer than k.
        ids : numpy.ndarray
            ``[U, k]``; -1 (None for string ids) where there are fewer than k.

        Raises
        ------
        KeyError
            An id that is not in the catalogue.
        """
        queries = _matrix("user", user)
        if queries.shape[1] != self._vectors.shape[1]:
            raise ValueError(
                f"user: expected rows of width {self._vectors.shape[1]}, got {queries.shape[1]}"
            )
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
            raise TypeError(f"k: expected an int, got {type(k).__name__}")
        scale = None
        if self.normalization == "cosine":
            scale = _native.inverse_norm(queries)
        if self._user_map is not None:
            queries = _native.fusion_matrix(queries, self._user_map)
        scores, codes = _native.fusion_topk(
            queries,
            self._vectors,
            int(k),
            user_scale=scale,
            exclude=None if exclude is None else self._ragged(exclude, len(queries)),
            allowed=None if allowed is None else self._mask(allowed),
        )
        return scores, self._named(codes)

    def _codes(self, name: str, ids: Sequence[Any]) -> list[int]:
        try:
            return [self._code[id_] for id_ in ids]
        except KeyError as error:
            raise KeyError(f"{name}: id {error.args[0]!r} is not in the catalogue") from None

    def _ragged(
        self, exclude: Sequence[Sequence[Any]], users: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        if len(exclude) != users:
            raise ValueError(
                f"exclude: expected one list for each of {users} users, got {len(exclude)}"
            )
        codes = [self._codes("exclude", ids) for ids in exclude]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in codes])]).astype(np.int64)
        return offsets, np.asarray([code for row in codes for code in row], dtype=np.int64)

    def _mask(self, allowed: Sequence[Any]) -> npt.NDArray[np.bool_]:
        mask = np.zeros(len(self), dtype=np.bool_)
        mask[self._codes("allowed", allowed)] = True
        return mask

    def _named(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        absent = codes < 0
        if not len(self):
            return codes
        named = self.ids[np.where(absent, 0, codes)]
        if named.dtype.kind == "i":
            named[absent] = -1
        else:
            named = named.astype(object)
            named[absent] = None
        return named


def _matrix(name: str, value: npt.ArrayLike) -> npt.NDArray[np.float32]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name}: expected 2 dimensions, got shape {list(array.shape)}")
    return array.astype(np.float32, copy=False)


def _ids(ids: Sequence[Any] | npt.NDArray[Any] | None, count: int) -> npt.NDArray[Any]:
    names = np.arange(count, dtype=np.int64) if ids is None else np.asarray(ids)
    if names.dtype.kind not in "iuUO" or names.ndim != 1:
        raise TypeError(f"ids: expected a flat sequence of int or str, got dtype {names.dtype}")
    if len(names) != count:
        raise ValueError(f"ids: expected {count}, one a vector, got {len(names)}")
    if names.dtype.kind in "iu":
        names = names.astype(np.int64)
    repeats = count - len(set(names.tolist()))
    if repeats:
        raise ValueError(f"ids: expected unique ids, got {repeats} repeats")
    return names


def _check_norm(normalization: str, power: float, ridge: float, eps: float) -> None:
    if normalization not in _NORMALIZATIONS:
        raise ValueError(
            f"normalization: expected one of {', '.join(_NORMALIZATIONS)}, got {normalization!r}"
        )
    for name, value, least in (("power", power, -np.inf), ("ridge", ridge, 0.0), ("eps", eps, 0.0)):
        if not (np.isfinite(value) and value >= least):
            raise ValueError(f"{name}: expected a finite number of at least {least:g}, got {value}")


def _gram_power(
    items: npt.NDArray[np.float32], power: float, ridge: float
) -> npt.NDArray[np.float32]:
    """``(G + ridge I)^(-power)`` on the row space; see :mod:`fusionops.ops.gram_power`."""
    gram = _native.fusion_contract(items, items)
    values, vectors = np.linalg.eigh(gram)
    cutoff = max(items.shape) * np.finfo(gram.dtype).eps * max(values[-1], 0.0)
    kept = values > cutoff
    weights = np.where(kept, np.where(kept, values + ridge, 1.0) ** -power, 0.0)
    return np.asarray((vectors * weights) @ vectors.T, dtype=np.float32)
