"""A segment: items packed together once and never changed again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops import _native
from fusionops.catalog.ids import Ids
from fusionops.catalog.inputs import PANEL
from fusionops.catalog.normalization import Norm
from fusionops.catalog.tensor_file import TensorSpec
from fusionops.catalog.verified import Verified

DTYPES = ("float32", "bfloat16", "int8")


def packed_specs(dtype: str, count: int, width: int) -> dict[str, TensorSpec]:
    """What :func:`fusionops._native.pack_items` fills for `count` items."""
    panels = -(-count // PANEL)
    if dtype == "float32":
        return {"panels": TensorSpec(np.float32, (panels, width, PANEL))}
    stats = TensorSpec(np.float32, (panels, 3, PANEL))
    if dtype == "bfloat16":
        pairs = TensorSpec(np.uint16, (panels, -(-width // 2), PANEL, 2))
        return {"panels": pairs, "stats": stats}
    quads = TensorSpec(np.uint8, (panels, -(-width // 4), PANEL, 4))
    return {"panels": quads, "stats": stats}


class Segment:
    """Some items, ascending by insertion key.

    Attributes
    ----------
    dtype : str
        Of the panels.
    ids : Ids
    keys : int or numpy.ndarray
        Insertion keys, which order equal scores: the first of consecutive ones, or all.
    panels, stats : Verified
        As :func:`fusionops._native.pack_items` fills them; no `stats` in float32.
    vectors : Verified, optional
        ``[P, D]`` float32, to rescore; float32 panels hold the same numbers.
    item_scale : Verified, optional
        ``[P]``.
    pinned : bool
        The vectors are in a file, so that merging would bring them into memory.
    """

    def __init__(
        self,
        *,
        dtype: str,
        ids: Ids,
        keys: int | npt.NDArray[np.int64],
        panels: Verified,
        stats: Verified | None,
        vectors: Verified | None,
        item_scale: Verified | None,
        pinned: bool,
    ) -> None:
        self.dtype, self.ids, self.keys = dtype, ids, keys
        self.panels, self.stats = panels, stats
        self.vectors, self.item_scale = vectors, item_scale
        self.pinned = pinned

    def __len__(self) -> int:
        return len(self.ids)

    def keys_of(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Insertion keys at these positions."""
        return positions + self.keys if isinstance(self.keys, int) else self.keys[positions]

    def rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The float32 vectors at these positions; a view where they follow each other."""
        count = len(positions)
        if self.vectors is None:
            return self._unpacked(positions)
        vectors = self.vectors.with_rows(positions)
        if count and positions[-1] - positions[0] == count - 1 and (np.diff(positions) == 1).all():
            return vectors[positions[0] : positions[0] + count]
        return vectors[positions]

    def _unpacked(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        panel = positions // PANEL
        panels = self.panels.with_rows(panel)
        return np.ascontiguousarray(panels[panel, :, positions % PANEL])


class Growing:
    """An array that grows along its first axis, in place where the allocator can.

    Large blocks are moved by the kernel's page tables, so growing needs no second copy of them.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self._array = np.empty(spec.shape, dtype=spec.dtype)
        self._size = 0

    def extend(self, rows: int) -> npt.NDArray[Any]:
        """The next rows, to be filled before the next call."""
        start, self._size = self._size, self._size + rows
        if self._size > len(self._array):
            self._array.resize((self._size, *self._array.shape[1:]), refcheck=False)
        return self._array[start : self._size]

    def take(self) -> npt.NDArray[Any]:
        """All of it."""
        return self._array[: self._size]


class Packer:
    """Packs blocks of items as they come.

    Parameters
    ----------
    dtype : str
    width : int
        D.
    norm : Norm
    count : int
        Items to make room for at once; more may come.
    """

    def __init__(self, dtype: str, width: int, norm: Norm, count: int = 0) -> None:
        self.count = 0
        self._dtype, self._width, self._norm = dtype, width, norm
        self._packed = {
            name: Growing(spec) for name, spec in packed_specs(dtype, count, width).items()
        }
        self._scale = Growing(TensorSpec(np.float32, (count,))) if norm.scales_items else None

    def append(self, block: npt.NDArray[np.float32]) -> None:
        """Pack ``[n, D]``; every block but the last has whole panels."""
        if not len(block):
            return
        scale = None if self._scale is None else self._scale.extend(len(block))
        panels = -(-len(block) // PANEL)
        pack(
            self._dtype,
            self._norm,
            block,
            scale,
            *(p.extend(panels) for p in self._packed.values()),
        )
        self.count += len(block)

    def segment(
        self,
        ids: Ids,
        keys: int | npt.NDArray[np.int64],
        vectors: npt.NDArray[np.float32] | None,
        pinned: bool = False,
    ) -> Segment:
        """What was packed, with the vectors themselves unless the panels hold them."""
        packed = {name: Verified(array.take()) for name, array in self._packed.items()}
        return Segment(
            dtype=self._dtype,
            ids=ids,
            keys=keys,
            panels=packed["panels"],
            stats=packed.get("stats"),
            vectors=None if vectors is None or self._dtype == "float32" else Verified(vectors),
            item_scale=None if self._scale is None else Verified(self._scale.take()),
            pinned=pinned,
        )


def pack(
    dtype: str,
    norm: Norm,
    block: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32] | None,
    panels: npt.NDArray[Any],
    stats: npt.NDArray[np.float32] | None = None,
) -> None:
    """Fill `scale`, `panels` and `stats` for a block of items."""
    if scale is not None:
        scale[:] = norm.item_scale(block)
    _native.pack_items(block, dtype, panels, stats, scale)


def pack_all(
    dtype: str,
    norm: Norm,
    vectors: npt.NDArray[np.float32],
    blocks: Iterable[npt.NDArray[np.float32]],
    ids: Ids,
    keys: int | npt.NDArray[np.int64],
    pinned: bool = False,
) -> Segment:
    """A segment of `vectors`, which come in `blocks` of whole panels."""
    packer = Packer(dtype, vectors.shape[1], norm, len(vectors))
    for block in blocks:
        packer.append(block)
    return packer.segment(ids, keys, vectors, pinned)
