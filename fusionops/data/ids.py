"""Ids to codes and back: the codes 0..n-1 are the rows of every matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Codes = npt.NDArray[np.int64]


class IdMap:
    """A bijection between ids and the codes ``0..n-1``, in the order given.

    Parameters
    ----------
    ids : array-like of str or of int
        Unique ids; the position of an id is its code.

    Attributes
    ----------
    ids : numpy.ndarray
        The ids, ``int64`` or unicode, shape ``[n]``. Do not write to it.

    Raises
    ------
    TypeError
        The ids are neither all strings nor all integers.
    ValueError
        An id comes twice.
    """

    def __init__(self, ids: npt.ArrayLike | Iterable[Any]) -> None:
        self.ids = _id_array(ids)
        self.ids.setflags(write=False)
        values = self.ids.tolist()
        self._codes: dict[Any, int] = dict(zip(values, range(len(values)), strict=True))
        if len(self._codes) != len(values):
            seen: set[Any] = set()
            twice = next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]
            raise ValueError(f"ids must be unique, but {twice!r} comes more than once")

    @classmethod
    def from_values(cls, values: pa.Array | pa.ChunkedArray | npt.ArrayLike) -> IdMap:
        """Return the map of the distinct values, sorted."""
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pa.Array):
            values = values.unique().drop_null()
        return cls(np.unique(_id_array(values)))

    def encode(
        self,
        values: npt.ArrayLike | pa.Array | pa.ChunkedArray,
        *,
        unknown: Literal["raise", "mark"] = "raise",
    ) -> Codes:
        """Return the codes of ``values``.

        Parameters
        ----------
        values : array-like of ids, shape [m]
            Nulls count as unknown.
        unknown : {"raise", "mark"}
            What to do with an id that the map does not hold: raise, or give it the code -1.

        Returns
        -------
        numpy.ndarray
            ``int64`` codes, shape ``[m]``.

        Raises
        ------
        TypeError
            Strings were given to a map of integers, or the other way round.
        KeyError
            An id is unknown and ``unknown="raise"``.
        """
        if unknown not in ("raise", "mark"):
            raise ValueError(f"unknown must be 'raise' or 'mark', got {unknown!r}")
        column = _id_column(values)
        self._check_kind(column.type)
        # A table has far more rows than ids: look up each distinct value once.
        dictionary = column.dictionary_encode()
        table = np.array(
            [self._codes.get(value, -1) for value in dictionary.dictionary.to_pylist()] + [-1],
            dtype=np.int64,
        )
        codes: Codes = table[
            dictionary.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
        ]
        if unknown == "raise":
            missing = np.flatnonzero(codes < 0)
            if len(missing):
                example = column[int(missing[0])].as_py()
                raise KeyError(
                    f"{len(missing)} of {len(codes)} ids are unknown, for example {example!r}"
                )
        return codes

    def decode(self, codes: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the ids of ``codes``; any shape. A code outside ``0..n-1`` raises IndexError."""
        codes = np.asarray(codes, dtype=np.int64)
        if codes.size and codes.min() < 0:
            raise IndexError(f"codes must be at least 0, got {codes.min()}")
        return np.asarray(self.ids[codes])

    def _check_kind(self, kind: pa.DataType) -> None:
        ours = "strings" if self.ids.dtype.kind == "U" else "integers"
        theirs = "integers" if pa.types.is_integer(kind) else "strings"
        if len(self) and not pa.types.is_null(kind) and ours != theirs:
            raise TypeError(f"ids are {ours}, got {theirs}")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, value: object) -> bool:
        return value in self._codes

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, IdMap) and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"IdMap({len(self)} ids)"


def _id_array(ids: Any) -> npt.NDArray[Any]:
    """Return an owned array of int64 or of unicode, or TypeError."""
    array = np.array(ids if isinstance(ids, (np.ndarray, pa.Array)) else list(ids))
    if array.ndim != 1:
        raise ValueError(f"ids must be one-dimensional, got shape {list(array.shape)}")
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array):
        return array.astype(np.str_)
    if array.dtype.kind in "iu" or array.size == 0:
        return array.astype(np.int64) if array.dtype.kind != "U" else array
    if array.dtype.kind == "U" and (
        isinstance(ids, np.ndarray) or all(isinstance(value, str) for value in ids)
    ):
        return array
    kinds = sorted({type(value).__name__ for value in array.tolist()})
    if not isinstance(ids, np.ndarray):  # numpy has made one kind of them
        kinds = sorted({type(value).__name__ for value in ids})
    raise TypeError(f"ids must be all strings or all integers, got {' and '.join(kinds)}")


def _id_column(values: Any) -> pa.Array:
    """Return the values as one Arrow array of strings or integers, or TypeError."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    elif not isinstance(values, pa.Array):
        try:
            values = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TypeError(f"ids must be all strings or all integers: {error}") from None
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    kind = values.type
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_null(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    ):
        raise TypeError(f"ids must be strings or integers, got {kind}")
    return values
