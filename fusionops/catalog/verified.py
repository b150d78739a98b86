"""Arrays whose bytes are checked against checksums before they are first used."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK = 256 * 1024
"""Bytes under one checksum: what rescoring one item of a memory-mapped file reads at most."""


class CatalogFileError(ValueError):
    """A file that is no catalogue, or a damaged one."""


class Checksums:
    """CRC-32 of the blocks of one tensor of a file, compared once each.

    Two threads may compare a block at the same time; both find the same.
    """

    def __init__(
        self, path: Path, tensor: str, data: memoryview, expected: npt.NDArray[np.uint32]
    ) -> None:
        self._where = f"{path}: {tensor}"
        self._data = data
        self._expected = expected
        self._verified = np.zeros(len(expected), dtype=np.bool_)
        self._done = not len(expected)

    def verify(self) -> None:
        """Compare every block that was not compared yet."""
        if not self._done:
            self._compare(np.flatnonzero(~self._verified))
            self._done = True

    def verify_rows(self, rows: npt.NDArray[np.int64], row_bytes: int) -> None:
        """Compare the blocks that hold these rows."""
        if self._done or not len(rows) or not row_bytes:
            return
        edges = np.zeros(len(self._expected) + 1, dtype=np.int64)
        np.add.at(edges, rows * row_bytes // BLOCK, 1)
        np.add.at(edges, ((rows + 1) * row_bytes - 1) // BLOCK + 1, -1)
        self._compare(np.flatnonzero((np.cumsum(edges[:-1]) > 0) & ~self._verified))
        self._done = bool(self._verified.all())

    def _compare(self, blocks: npt.NDArray[np.int64]) -> None:
        for block in blocks.tolist():
            found = zlib.crc32(self._data[block * BLOCK : (block + 1) * BLOCK])
            if found != self._expected[block]:
                raise CatalogFileError(
                    f"{self._where} is damaged: expected checksum {self._expected[block]:08x} "
                    f"in its block {block}, got {found:08x}"
                )
            self._verified[block] = True


class Verified:
    """An array that is handed out once its bytes are known to be right.

    Parameters
    ----------
    array : numpy.ndarray
        In memory, or memory-mapped.
    checksums : Checksums, optional
        Of its bytes; without, there is nothing to check.
    """

    def __init__(self, array: npt.NDArray[Any], checksums: Checksums | None = None) -> None:
        self._array = array
        self._checksums = checksums
        self._row_bytes = array.nbytes // max(1, len(array))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the array."""
        return self._array.dtype

    def whole(self) -> npt.NDArray[Any]:
        """The array, all of it verified."""
        if self._checksums is not None:
            self._checksums.verify()
        return self._array

    def with_rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The array, of which only these rows are verified."""
        if self._checksums is not None:
            self._checksums.verify_rows(rows, self._row_bytes)
        return self._array
