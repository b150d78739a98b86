"""The face of the package: checks, one lock for writers, one snapshot for every reader."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fusionops.catalog import persistence, searching
from fusionops.catalog.building import build
from fusionops.catalog.ids import as_ids, make_ids
from fusionops.catalog.inputs import count, float32, matrix
from fusionops.catalog.normalization import Norm, gram
from fusionops.catalog.segment import DTYPES
from fusionops.catalog.snapshot import Snapshot


class Catalog:
    """Items by id, packed for search. Make one with :meth:`build` or :meth:`load`.

    Scores are those of :func:`fusionops.fusion_topk`, and lists are the same bits in every dtype:
    bfloat16 and int8 find candidates by a bound on their error, which are rescored in float32.

    Any number of threads may search while others change the catalogue: a search sees the state of
    one moment, a change is seen as a whole or not at all, and one that fails changes nothing.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._writing = threading.Lock()
        _ALL.add(self)

    @classmethod
    def build(
        cls,
        vectors: Any,
        ids: Any = None,
        *,
        normalization: str = "diagonal",
        power: float = 0.5,
        ridge: float = 0.0,
        eps: float = 0.0,
        dtype: str = "float32",
        path: str | os.PathLike[str] | None = None,
    ) -> Catalog:
        """Prepare a catalogue.

        Parameters
        ----------
        vectors : array_like, or iterable of array_like
            ``[P, D]``, one row an item, computed in float32; or a stream of chunks ``[n, D]``, an
            iterator or other iterable without a length, so not a list.
            bfloat16 and int8 keep the vectors to rescore: a float32 array, memory map or CPU
            tensor as it is, without a copy, so do not write to it afterwards; anything else as a
            float32 copy, in memory or in `path`.
        ids : sequence of int or of str, optional
            ``[P]``, unique; by default ``0 .. P - 1``.
        normalization, power, ridge, eps
            As for :func:`fusionops.fusion_matrix`.
        dtype : str
            Of the packed items: ``"float32"``, ``"bfloat16"`` or ``"int8"``.
        path : path, optional
            A ``.npy`` file to keep the vectors of bfloat16 or int8 in, memory-mapped, instead of
            in memory. It must stay as long as the catalogue is used.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong kind, shape or range, and ids that are not unique.

        Notes
        -----
        Memory of an item beside the vectors: ``4 D`` bytes in float32, ``2 D + 12`` in bfloat16,
        ``D + 12`` in int8; 4 for ``"diagonal"`` and ``"cosine"``; 0 for integer ids that count
        up by one, 8 for others that ascend, 20 for the rest.

        Examples
        --------
        >>> from fusionops.catalog import Catalog
        >>> catalog = Catalog.build([[1.0, 1.0], [2.0, 0.0]], ["tea", "cup"], dtype="int8")
        >>> catalog.search([[1.0, 0.0]], 1)
        (array([[1.]], dtype=float32), array([['cup']], dtype=object))
        """
        norm = Norm.checked(normalization, power, ridge, eps)
        if dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
        return cls(build(vectors, ids, norm, dtype, path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], mmap: bool = True, verify: bool = False) -> Catalog:
        """Open a file of :meth:`save`. The file is never changed.

        Parameters
        ----------
        path : path
        mmap : bool
            Map the file into memory, which may be smaller, instead of reading it.
        verify : bool
            Compare all of a mapped file with its checksums now. Otherwise its length and header
            are compared now and each block when it is first used. A file that is read is always
            compared as a whole.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        CatalogFileError
            It is something else, of a later version, truncated or damaged. Later on, from any
            method: a block of a mapped file is damaged.
        """
        return cls(persistence.load(Path(path), mapped=bool(mmap), verify=bool(verify)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the items, without those removed, to one safetensors file.

        The file appears whole or not at all; an older one of that name, which catalogues may have
        mapped, is replaced, and stays whole if the process is killed. Memory does not grow with
        the vectors.
        """
        persistence.save(self._snapshot, Path(path))

    # --- reading -----------------------------------------------------------------------------

    def search(
        self, user: Any, k: int, exclude: Any = None, allowed: Any = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """The k best items of every user.

        Parameters
        ----------
        user : array_like
            ``[U, D]``, computed in float32.
        k : int
            Length of the lists, at least 1.
        exclude : sequence of sequences of ids, optional
            One a user: what may not be returned to that user. Or a tuple of two arrays or tensors,
            ``(offsets [U + 1], ids [nnz])``: user ``u`` has ``ids[offsets[u] : offsets[u + 1]]``.
            Two users' arrays in a tuple are taken for such a pair where the first is of 3 integers
            that start with 0; in a list they never are.
        allowed : sequence of ids or bool mask, optional
            What may be returned at all: ids, or ``[P]`` bool in the order of :attr:`ids`.

        Returns
        -------
        scores : numpy.ndarray
            ``[U, k]`` float32, descending; -inf where there are fewer than k.
        ids : numpy.ndarray
            ``[U, k]``, int64, or str as objects; -1 or None where there are fewer than k. Equal
            scores stand in order of insertion. NaN and -inf never enter a list.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong kind, shape or range.
        KeyError
            An id that is not in the catalogue.
        """
        snapshot = self._snapshot
        queries = _rows(snapshot, "user", user)
        return searching.search(snapshot, queries, count("k", k), exclude, allowed)

    def vectors(self, ids: Any) -> npt.NDArray[np.float32]:
        """``[n, D]``: a copy of the vectors of these ids, as they were given.

        Raises
        ------
        KeyError
            An id that is not in the catalogue.
        """
        snapshot = self._snapshot
        return np.array(snapshot.rows(snapshot.locate("ids", ids)))

    def filter(self, which: Any) -> Catalog:
        """A catalogue of some of the items, which shares their memory with this one.

        Changes of one are not seen by the other. ``normalization="matrix"`` keeps its map, so
        scores stay the same until :meth:`refit`.

        Parameters
        ----------
        which : sequence of ids, bool mask, or callable
            As `allowed` of :meth:`search`, or a function of an id that says whether to keep it.
        """
        snapshot = self._snapshot
        if callable(which) and not hasattr(which, "__array__"):
            predicate: Callable[[Any], Any] = which
            names = snapshot.names(snapshot.order).tolist()
            which = np.fromiter((bool(predicate(name)) for name in names), np.bool_, len(names))
        return Catalog(snapshot.restricted(snapshot.masks("which", which)))

    @property
    def ids(self) -> npt.NDArray[Any]:
        """``[P]``: the ids in order of insertion, int64, or str as objects."""
        snapshot = self._snapshot
        return snapshot.names(snapshot.order)

    @property
    def width(self) -> int:
        """Features of an item, D."""
        return self._snapshot.width

    @property
    def dtype(self) -> str:
        """Of the packed items: ``"float32"``, ``"bfloat16"`` or ``"int8"``."""
        return self._snapshot.dtype

    @property
    def normalization(self) -> str:
        """The normalisation that scores are computed in."""
        return self._snapshot.norm.normalization

    def __len__(self) -> int:
        return len(self._snapshot)

    def __contains__(self, id_: object) -> bool:
        try:
            name = as_ids("id", [id_])
        except (TypeError, ValueError):  # what cannot be an id
            return False
        return bool(self._snapshot.find(name).part[0] >= 0)  # a damaged file is told

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Catalog cannot be pickled or copied; use save and load, or filter")

    def __repr__(self) -> str:
        s = self._snapshot
        return (
            f"Catalog({len(s)} items, {s.width} features, dtype={s.dtype!r}, "
            f"normalization={s.norm.normalization!r})"
        )

    # --- writing -----------------------------------------------------------------------------

    def add(self, vectors: Any, ids: Any) -> None:
        """Append items.

        Parameters
        ----------
        vectors : array_like
            ``[n, D]``. ``normalization="matrix"`` reuses its map; see :meth:`refit`.
        ids : sequence of int or of str
            ``[n]``, unique, of the kind of the others, none of them in the catalogue.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong kind, shape or range, and ids that are there already.
        """
        names = as_ids("ids", ids, own=True)
        with self._writing:
            old = self._snapshot
            rows = _changed_rows(old, vectors, names)
            make_ids("ids", names)
            kind = "str" if names.dtype.kind == "O" else "int"
            if len(names) and len(old) and kind != old.kind:
                raise TypeError(f"ids: expected {old.kind} as the other ids, got {kind}")
            known = names[old.find(names).part >= 0]
            if len(known):
                raise ValueError(
                    f"ids: expected new ids, got {known[:1].tolist()[0]!r}, which is in the "
                    "catalogue; use update to replace it"
                )
            if not len(names):
                return
            keys = old.next_key + np.arange(len(names), dtype=np.int64)
            self._snapshot = old.with_items(
                names, keys, rows, kind=kind, next_key=old.next_key + len(names)
            )

    def update(self, ids: Any, vectors: Any) -> None:
        """Replace the vectors of items, which keep their place among equal scores.

        Parameters
        ----------
        ids : sequence of int or of str
            ``[n]``, unique, in the catalogue.
        vectors : array_like
            ``[n, D]``. ``normalization="matrix"`` reuses its map; see :meth:`refit`.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong kind, shape or range.
        KeyError
            An id that is not in the catalogue.
        """
        names = as_ids("ids", ids)
        with self._writing:
            old = self._snapshot
            rows = _changed_rows(old, vectors, names)
            make_ids("ids", names)
            places = old.locate("ids", names)
            if not len(names):
                return
            keys = old.keys(places)
            order = np.argsort(keys)
            emptied = old.without(places)
            self._snapshot = emptied.with_items(names[order], keys[order], rows[order])

    def remove(self, ids: Any) -> None:
        """Take items out.

        Raises
        ------
        TypeError, ValueError
            Not a flat sequence of unique ids.
        KeyError
            An id that is not in the catalogue.
        """
        names = as_ids("ids", ids)
        with self._writing:
            old = self._snapshot
            places = old.locate("ids", names)
            make_ids("ids", names)
            if len(names):
                self._snapshot = old.without(places)

    def refit(self) -> None:
        """Recompute the map of ``normalization="matrix"`` from the items as they are now.

        It passes over all vectors. Other normalisations have nothing to recompute.

        Raises
        ------
        ValueError
            A vector is not finite.
        """
        with self._writing:
            old = self._snapshot
            if not old.norm.maps_users:
                return
            # Summed anew: what a sum has lost to rounding beside a large vector does not come back
            # by subtracting that vector.
            total = np.zeros((old.width, old.width))
            for block in old.blocks():
                total += gram(block)
            self._snapshot = replace(old, user_map=old.norm.user_map(total, len(old)))


def _rows(snapshot: Snapshot, name: str, value: Any) -> npt.NDArray[np.float32]:
    rows = float32(matrix(name, value))
    if rows.shape[1] != snapshot.width:
        raise ValueError(f"{name}: expected rows of width {snapshot.width}, got {rows.shape[1]}")
    return rows


def _changed_rows(
    snapshot: Snapshot, vectors: Any, names: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    """Vectors for ids, copied: a catalogue that changes owns what it was given."""
    rows = _rows(snapshot, "vectors", vectors)
    if len(rows) != len(names):
        raise ValueError(f"ids: expected {len(rows)}, one a vector, got {len(names)}")
    return np.array(rows, order="C")


_ALL: weakref.WeakSet[Catalog] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked child no thread is writing, whatever the parent's did."""
    for catalog in _ALL:
        catalog._writing = threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)
