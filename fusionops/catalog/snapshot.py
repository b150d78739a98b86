"""The state that a search sees: segments, and which of their items are alive.

A snapshot is never changed. Writers make a new one from it that shares its segments, so searches
need no lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fusionops.catalog.ids import as_ids, make_ids
from fusionops.catalog.inputs import array_blocks, as_array, block_rows
from fusionops.catalog.normalization import Norm
from fusionops.catalog.segment import Segment, pack_all


class Part(NamedTuple):
    """A segment, a mask of its living items (None: all), and how many they are."""

    segment: Segment
    alive: npt.NDArray[np.bool_] | None
    size: int

    @classmethod
    def of(cls, segment: Segment, alive: npt.NDArray[np.bool_] | None = None) -> Part:
        """With its items counted."""
        count = len(segment) if alive is None else int(np.count_nonzero(alive))
        return cls(segment, None if count == len(segment) else alive, count)

    def without(self, positions: npt.NDArray[np.int64]) -> Part:
        """These items removed."""
        if not len(positions):
            return self
        alive = np.ones(len(self.segment), np.bool_) if self.alive is None else self.alive.copy()
        alive[positions] = False
        return Part.of(self.segment, alive)

    def positions(self) -> npt.NDArray[np.int64]:
        """Where its living items stand."""
        if self.alive is None:
            return np.arange(len(self.segment), dtype=np.int64)
        return np.flatnonzero(self.alive)


class Places(NamedTuple):
    """Items by part and position in the part's segment."""

    part: npt.NDArray[Any]
    position: npt.NDArray[np.int64]

    def at(self, index: Any) -> Places:
        """Some of them."""
        return Places(self.part[index], self.position[index])

    def within(self, part: int) -> npt.NDArray[np.int64]:
        """The positions in one part."""
        positions: npt.NDArray[np.int64] = self.position[self.part == part]
        return positions


@dataclass(frozen=True)
class Snapshot:
    """See the module.

    Attributes
    ----------
    norm : Norm
    dtype : str
    width : int
    kind : str
        ``"int"`` or ``"str"``: of the ids.
    parts : tuple of Part
        None of them empty.
    next_key : int
        Insertion key of the next item.
    user_map : numpy.ndarray, optional
        ``[D, D]``, where the normalisation has one.
    """

    norm: Norm
    dtype: str
    width: int
    kind: str
    parts: tuple[Part, ...] = ()
    next_key: int = 0
    user_map: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return sum(part.size for part in self.parts)

    # --- ids ---------------------------------------------------------------------------------

    def find(self, ids: npt.NDArray[Any]) -> Places:
        """Where these ids are; part -1 where they are not."""
        where = Places(np.full(len(ids), -1, np.int64), np.full(len(ids), -1, np.int64))
        if ids.dtype.kind != ("O" if self.kind == "str" else "i"):
            return where
        for at, part in enumerate(self.parts):
            found = part.segment.ids.find(ids)
            if part.alive is not None:
                found = np.where(part.alive[found], found, -1)  # [-1] is the last: -1 stays -1
            hit = found >= 0
            where.part[hit] = at
            where.position[hit] = found[hit]
        return where

    def locate(self, name: str, values: Any) -> Places:
        """Where the ids of an argument are.

        Raises
        ------
        KeyError
            One of them is not in the catalogue.
        """
        ids = as_ids(name, values)
        places = self.find(ids)
        missing = np.flatnonzero(places.part < 0)
        if len(missing):
            unknown = ids[missing[:1]].tolist()[0]
            raise KeyError(f"{name}: id {unknown!r} is not in the catalogue")
        return places

    def keys(self, places: Places) -> npt.NDArray[np.int64]:
        """Insertion keys of places."""
        keys = np.empty(len(places.position), dtype=np.int64)
        for at, part in enumerate(self.parts):
            here = places.part == at
            keys[here] = part.segment.keys_of(places.position[here])
        return keys

    def names(self, places: Places) -> npt.NDArray[Any]:
        """Ids of `places` of any shape; -1 or None where the part is -1."""
        names = self.no_names(places.part.shape)
        for at, part in enumerate(self.parts):
            here = places.part == at
            names[here] = part.segment.ids.take(places.position[here])
        return names

    def no_names(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """What stands where there is no id."""
        if self.kind == "str":
            return np.full(shape, None, dtype=object)
        return np.full(shape, -1, dtype=np.int64)

    # --- insertion order ---------------------------------------------------------------------

    @property
    def order(self) -> Places:
        """All living items, in order of insertion."""
        if len(self.parts) == 1:  # told at once, and too large to be kept
            positions = self.parts[0].positions()
            return Places(np.broadcast_to(np.int8(0), positions.shape), positions)
        # No functools.cached_property: up to Python 3.11 it has one lock for all catalogues, which
        # a forked child would inherit held. Two threads would make the same.
        if "_order" not in self.__dict__:
            self.__dict__["_order"] = self._merged_order()
        order: Places = self.__dict__["_order"]
        return order

    def _merged_order(self) -> Places:
        empty = np.empty(0, dtype=np.int64)
        living = [part.positions() for part in self.parts]
        keys = [p.segment.keys_of(at) for p, at in zip(self.parts, living, strict=True)]
        owner = np.repeat(np.arange(len(self.parts)), [len(at) for at in living])
        rank = np.argsort(np.concatenate([empty, *keys]), kind="stable")
        return Places(owner[rank], np.concatenate([empty, *living])[rank])

    def rows(self, places: Places) -> npt.NDArray[np.float32]:
        """Vectors of places, ``[n, D]``; perhaps a view."""
        if len(self.parts) == 1:
            return self.parts[0].segment.rows(places.position)
        rows = np.empty((len(places.position), self.width), dtype=np.float32)
        for at, part in enumerate(self.parts):
            here = places.part == at
            rows[here] = part.segment.rows(places.position[here])
        return rows

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """All vectors in order of insertion, in blocks of whole panels."""
        step, order = block_rows(self.width), self.order
        for start in range(0, len(order.position), step):
            yield self.rows(order.at(slice(start, start + step)))

    # --- writing -----------------------------------------------------------------------------

    def with_items(
        self,
        ids: npt.NDArray[Any],
        keys: npt.NDArray[np.int64],
        vectors: npt.NDArray[np.float32],
        **changes: Any,
    ) -> Snapshot:
        """One more segment, of items that ascend by key and are not alive elsewhere."""
        blocks = array_blocks(vectors)
        added = pack_all(self.dtype, self.norm, vectors, blocks, make_ids("ids", ids), keys)
        parts = _settled((*self.parts, Part.of(added)), self.norm)
        return replace(self, parts=parts, **changes)

    def without(self, places: Places) -> Snapshot:
        """These items removed."""
        parts = tuple(part.without(places.within(at)) for at, part in enumerate(self.parts))
        return replace(self, parts=_settled(parts, self.norm))

    def restricted(self, masks: list[npt.NDArray[np.bool_] | None]) -> Snapshot:
        """Only items that a mask per part allows."""
        # Copied, as a mask may be the caller's, who may reuse it.
        own = [None if mask is None else mask.copy() for mask in masks]
        parts = [Part.of(p.segment, m) for p, m in zip(self.parts, own, strict=True)]
        return replace(self, parts=tuple(part for part in parts if part.size))

    def masks(self, name: str, allowed: Any) -> list[npt.NDArray[np.bool_] | None]:
        """A mask per part of what is alive and `allowed`: ids, or a mask in insertion order."""
        mask = as_array(name, allowed) if hasattr(allowed, "__array__") else None
        if mask is not None and mask.dtype.kind == "b":
            if mask.shape != (len(self),):
                raise ValueError(
                    f"{name}: expected a mask of shape [{len(self)}], one entry an item, got "
                    f"{list(mask.shape)}"
                )
            if len(self.parts) == 1 and self.parts[0].alive is None:
                return [mask]
            chosen = self.order.at(mask)
        else:
            chosen = self.locate(name, allowed)
        masks: list[npt.NDArray[np.bool_] | None] = []
        for at, part in enumerate(self.parts):
            here = np.zeros(len(part.segment), dtype=np.bool_)
            here[chosen.within(at)] = True
            masks.append(here)
        return masks


def _settled(parts: tuple[Part, ...], norm: Norm) -> tuple[Part, ...]:
    """No empty part, none mostly dead, and none at most twice as large as the one after it.

    So a catalogue that grows item by item keeps a logarithmic number of segments, and each item
    is repacked a logarithmic number of times. What lies in a file stays there.
    """
    kept: list[Part] = []
    for part in parts:
        if not part.size:
            continue
        if not part.segment.pinned and part.size < len(part.segment) // 2:
            part = _merged([part], norm)
        while kept and not kept[-1].segment.pinned and not part.segment.pinned:
            if kept[-1].size > 2 * part.size:
                break
            part = _merged([kept.pop(), part], norm)
        kept.append(part)
    return tuple(kept)


def _merged(parts: list[Part], norm: Norm) -> Part:
    """One segment of the living items of some."""
    segments = [part.segment for part in parts]
    positions = [part.positions() for part in parts]
    pairs = list(zip(segments, positions, strict=True))
    keys = np.concatenate([segment.keys_of(at) for segment, at in pairs])
    order = np.argsort(keys, kind="stable")
    ids = np.concatenate([segment.ids.take(at) for segment, at in pairs])[order]
    rows = np.concatenate([segment.rows(at) for segment, at in pairs])[order]
    index = make_ids("ids", ids)
    merged = pack_all(segments[0].dtype, norm, rows, array_blocks(rows), index, keys[order])
    return Part.of(merged)
