"""A catalogue's first segment: from an array, a memory map or a stream, block by block."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fusionops.catalog.ids import Ids, RangeIds, as_ids, make_ids
from fusionops.catalog.inputs import array_blocks, float32, is_stream, matrix, stream_blocks
from fusionops.catalog.normalization import Norm, gram
from fusionops.catalog.segment import Growing, Packer
from fusionops.catalog.snapshot import Part, Snapshot
from fusionops.catalog.tensor_file import TensorSpec
from fusionops.files import replacing_file


def build(
    vectors: Any, ids: Any, norm: Norm, dtype: str, path: str | os.PathLike[str] | None
) -> Snapshot:
    """See :meth:`fusionops.catalog.Catalog.build`; `norm` and `dtype` are checked."""
    if path is not None and dtype == "float32":
        raise ValueError(
            "path: expected none with dtype='float32', which keeps no vectors beside its panels"
        )
    names = None if ids is None else as_ids("ids", ids, own=True)
    if is_stream(vectors):
        blocks, count, kept = stream_blocks(vectors), None, None
    else:
        array = matrix("vectors", vectors)
        blocks, count = array_blocks(array), len(array)
        if dtype != "float32" and path is None:
            kept = float32(array)
            blocks = array_blocks(kept)
        else:
            kept = None
        if not count:
            blocks = iter([float32(array)])
    index = None
    if names is not None and count is not None:
        index = _index(names, count)  # before the work, so that bad ids are told at once
    with contextlib.ExitStack() as stack:
        sink: _Sink | None = None
        if dtype != "float32" and kept is None:
            sink = stack.enter_context(_sink(path))
        first = next(blocks)
        snapshot = Snapshot(norm, dtype, first.shape[1], "int")
        packer = Packer(dtype, snapshot.width, norm, count or 0)
        total = np.zeros((snapshot.width, snapshot.width)) if norm.maps_users else None
        for block in itertools.chain([first], blocks):
            packer.append(block)
            if sink is not None:
                sink.append(block)
            if total is not None:
                total += gram(block)
        # All that can fail comes before the sink's file takes its name.
        if index is None:
            index = RangeIds(0, packer.count) if names is None else _index(names, packer.count)
        user_map = None if total is None else norm.user_map(total, packer.count)
        if sink is not None:
            kept = sink.vectors()
    pinned = kept is not None and _is_mapped(kept)
    segment = packer.segment(index, 0, kept, pinned)
    parts = (Part.of(segment),) if len(segment) else ()
    return Snapshot(norm, dtype, snapshot.width, index.kind, parts, len(segment), user_map)


def _index(names: npt.NDArray[Any], count: int) -> Ids:
    if len(names) != count:
        raise ValueError(f"ids: expected {count}, one a vector, got {len(names)}")
    return make_ids("ids", names)


def _is_mapped(array: npt.NDArray[Any]) -> bool:
    """Whether an array's memory is a memory map's."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


class _Sink:
    """Where the vectors of a stream are kept, in memory."""

    def __init__(self) -> None:
        self._rows: Growing | None = None

    def append(self, block: npt.NDArray[np.float32]) -> None:
        if self._rows is None:
            self._rows = Growing(TensorSpec(np.float32, (0, block.shape[1])))
        self._rows.extend(len(block))[:] = block

    def vectors(self) -> npt.NDArray[np.float32]:
        assert self._rows is not None  # a stream has at least one block
        return self._rows.take()


class _FileSink(_Sink):
    """In a .npy file, memory-mapped at the end."""

    _HEADER = 128  # bytes, room for any shape

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._count, self._width = 0, 0
        file.write(b"\0" * self._HEADER)

    def append(self, block: npt.NDArray[np.float32]) -> None:
        self._count, self._width = self._count + len(block), block.shape[1]
        np.ascontiguousarray(block, dtype="<f4").tofile(self._file)

    def vectors(self) -> npt.NDArray[np.float32]:
        shape = (self._count, self._width)
        self._write_header()
        if not self._count * self._width:  # which cannot be mapped
            return np.empty(shape, dtype=np.float32)
        return np.memmap(self._file, "<f4", "r", self._HEADER, shape)

    def _write_header(self) -> None:
        text = (
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self._count}, {self._width})}}"
        )
        head = np.lib.format.magic(1, 0) + (self._HEADER - 10).to_bytes(2, "little")
        self._file.seek(0)
        self._file.write(head + text.encode().ljust(self._HEADER - 11) + b"\n")
        self._file.flush()


@contextlib.contextmanager
def _sink(path: str | os.PathLike[str] | None) -> Iterator[_Sink]:
    """A sink whose file, if it has one, takes its name at the end."""
    if path is None:
        yield _Sink()
        return
    with replacing_file(Path(path)) as file:
        yield _FileSink(file)
