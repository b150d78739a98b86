"""Ids of a run of items: which id stands where, and where an id stands.

Integers need no Python objects: consecutive ones are a range, others an array and, where they do
not ascend, a sorted copy with its order. Strings are looked up in a dictionary, made when first
needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fusionops.catalog.inputs import as_array
from fusionops.catalog.verified import Verified

_INTEGERS = (int, np.integer)
_BOOLS = (bool, np.bool_)


class Ids(Protocol):
    """Unique ids of items ``0 .. n - 1``."""

    kind: str

    def __len__(self) -> int: ...
    def take(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The ids at these positions."""

    def find(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The positions of these ids (of this kind), -1 where there is none."""


class RangeIds:
    """``start .. start + count - 1``."""

    kind = "int"

    def __init__(self, start: int, count: int) -> None:
        self.start, self._count = start, count

    def __len__(self) -> int:
        return self._count

    def take(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """See :class:`Ids`."""
        return positions + self.start

    def find(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """See :class:`Ids`."""
        # The subtraction may only be done where it cannot overflow.
        inside = (ids >= self.start) & (ids <= self.start + (self._count - 1))
        return np.where(inside, np.where(inside, ids, self.start) - self.start, -1)


class IntegerIds:
    """Integers of any order. `ascending` and `order` are missing where they ascend already."""

    kind = "int"

    def __init__(
        self, names: Verified, ascending: Verified | None = None, order: Verified | None = None
    ) -> None:
        self.names, self.ascending, self.order = names, ascending, order

    def __len__(self) -> int:
        return self.names.shape[0]

    def take(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """See :class:`Ids`."""
        taken: npt.NDArray[np.int64] = self.names.with_rows(positions.reshape(-1))[positions]
        return taken

    def find(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """See :class:`Ids`."""
        ascending = (self.ascending or self.names).whole()
        at = np.minimum(np.searchsorted(ascending, ids), len(ascending) - 1)
        positions = at if self.order is None else self.order.whole()[at].astype(np.int64)
        return np.where(ascending[at] == ids, positions, -1)


class StringIds:
    """Strings, in an object array."""

    kind = "str"

    def __init__(self, names: npt.NDArray[np.object_]) -> None:
        self._names = names
        self._positions: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self._names)

    def take(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        """See :class:`Ids`."""
        return self._names[positions]

    def find(self, ids: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
        """See :class:`Ids`."""
        if self._positions is None:  # two threads would make the same
            self._positions = {name: at for at, name in enumerate(self._names.tolist())}
        get = self._positions.get
        return np.fromiter((get(name, -1) for name in ids.tolist()), np.int64, len(ids))


def as_ids(name: str, values: Any, *, own: bool = False) -> npt.NDArray[Any]:
    """`values` as a flat int64 array, or an object array of str.

    Parameters
    ----------
    name : str
        What errors call them.
    values : array_like
    own : bool
        Never the caller's memory, for ids that are kept: whoever handed them over may reuse it.

    Raises
    ------
    TypeError
        Anything but integers alone or strings alone.
    ValueError
        More than one dimension, or an integer that int64 does not hold.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{name}: expected a sequence of ids, got {type(values).__name__}")
    if isinstance(values, range):
        return _from_range(name, values)
    if not hasattr(values, "__array__"):
        return _from_objects(name, list(values))
    array = as_array(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, got shape {list(array.shape)}")
    if array.dtype.kind in "iu":
        if array.dtype.kind == "u" and len(array) and int(array.max()) >= 1 << 63:
            raise ValueError(f"{name}: expected integers below 2^63, got {array.max()}")
        return array.astype(np.int64, copy=own)
    if array.dtype.kind in "OUT" or not len(array):
        return _from_objects(name, array.tolist())
    raise TypeError(f"{name}: expected integers or strings, got dtype {array.dtype}")


def make_ids(name: str, names: npt.NDArray[Any]) -> Ids:
    """An index of the ids that :func:`as_ids` made.

    Raises
    ------
    ValueError
        An id that is there twice.
    """
    if names.dtype.kind == "O":
        strings = StringIds(names)
        strings.find(names[:0])
        _unique(name, len(names), len(strings._positions or ()), names)
        return strings
    if not len(names):
        return RangeIds(0, 0)
    start, count = int(names[0]), len(names)
    # A difference that wraps is 1 only below the first id, which the last one then is, too.
    if int(names[-1]) - start == count - 1 and _steps(names, lambda a, b: b - a == 1):
        return RangeIds(start, count)
    if _steps(names, np.less):
        return IntegerIds(Verified(names))
    order = np.argsort(names, kind="stable")
    ascending = names[order]
    _unique(name, count, 1 + np.count_nonzero(ascending[1:] != ascending[:-1]), ascending)
    small = order.astype(np.uint32) if count <= 1 << 32 else order
    return IntegerIds(Verified(names), Verified(ascending), Verified(small))


def _steps(names: npt.NDArray[np.int64], holds: Callable[[Any, Any], Any]) -> bool:
    """Whether it holds for all neighbours; by pieces, without temporaries of the whole size."""
    piece = 1 << 20
    for start in range(0, len(names) - 1, piece):
        part = names[start : start + piece + 1]
        if not holds(part[:-1], part[1:]).all():
            return False
    return True


def _unique(name: str, count: int, distinct: int, names: npt.NDArray[Any]) -> None:
    if distinct != count:
        twice = Counter(names.tolist()).most_common(1)[0][0]
        raise ValueError(
            f"{name}: expected unique ids, got {count - distinct} repeats, {twice!r} among them"
        )


def _from_range(name: str, values: range) -> npt.NDArray[np.int64]:
    _check_int64(name, (values[0], values[-1]) if values else ())
    # Where the last one does, the end need not fit into int64.
    return np.fromiter(values, np.int64, len(values))


def _check_int64(name: str, values: Iterable[int]) -> None:
    far = next((value for value in values if not -(1 << 63) <= value < 1 << 63), None)
    if far is not None:
        raise ValueError(f"{name}: expected integers that int64 holds, got {far}")


def _from_objects(name: str, values: list[Any]) -> npt.NDArray[Any]:
    kinds = set(map(type, values))
    if all(issubclass(kind, str) for kind in kinds) and kinds:
        strings = np.empty(len(values), dtype=object)
        strings[:] = [str(value) for value in values] if kinds != {str} else values
        return strings
    if all(issubclass(kind, _INTEGERS) and not issubclass(kind, _BOOLS) for kind in kinds):
        try:
            return np.array(values, dtype=np.int64)
        except OverflowError:
            _check_int64(name, values)
            raise
    found = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise TypeError(f"{name}: expected integers alone or strings alone, got {found}")
