"""A safetensors file with checksums, written as a stream and read whole or memory-mapped.

The last tensor, ``checksums`` (uint32), holds the CRC-32 of every block of 256 KiB of every tensor
before it, in the order of the header; then that of the header with its length; then that of the
table up to there. So every byte of the file is under one checksum.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from fusionops.catalog.verified import BLOCK, CatalogFileError, Checksums, Verified

_NAMES: dict[np.dtype[Any], str] = {
    np.dtype(np.float64): "F64",
    np.dtype(np.float32): "F32",
    np.dtype(np.int64): "I64",
    np.dtype(np.uint32): "U32",
    np.dtype(np.uint16): "U16",
    np.dtype(np.uint8): "U8",
}
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(dtype) for dtype, name in _NAMES.items()}
_TABLE = "checksums"
_ALIGNMENT = 4096  # of the first tensor; the others are aligned to their elements
_LONGEST_HEADER = 100_000_000  # what the safetensors library accepts


class TensorSpec(NamedTuple):
    """Dtype and shape of a tensor to be written."""

    dtype: npt.DTypeLike
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return int(np.dtype(self.dtype).itemsize) * math.prod(self.shape)


class TensorWriter:
    """Writes tensors of known shapes in pieces, each at its own place.

    Parameters
    ----------
    file : binary file
        Empty, open for writing.
    metadata : mapping of str to str
    specs : mapping of str to TensorSpec
        In the order of the file. Larger elements first, which keeps all of them aligned.
    """

    def __init__(
        self, file: BinaryIO, metadata: Mapping[str, str], specs: Mapping[str, TensorSpec]
    ) -> None:
        self._handle = file.fileno()
        blocks = sum(_block_count(spec.nbytes) for spec in specs.values())
        table = TensorSpec(np.uint32, (blocks + 2,))
        self._header = _header(metadata, {**specs, _TABLE: table})
        self._sections: dict[str, _Section] = {}
        at = len(self._header)
        for name, spec in specs.items():
            self._sections[name] = _Section(self._handle, name, at, spec)
            at += spec.nbytes
        self._table_at = at

    def append(self, name: str, piece: npt.NDArray[Any]) -> None:
        """The next piece of a tensor, in row-major order."""
        self._sections[name].append(piece)

    def finish(self) -> None:
        """Write the header and the checksums; every tensor must be complete."""
        sums = [crc for section in self._sections.values() for crc in section.finish()]
        sums.append(zlib.crc32(self._header))
        table = np.array(sums, dtype="<u4").tobytes()
        _write_at(self._handle, memoryview(table + _word(zlib.crc32(table))), self._table_at)
        _write_at(self._handle, memoryview(self._header), 0)


class _Section:
    """One tensor's place in the file: where its next byte goes, and the checksums so far."""

    def __init__(self, handle: int, name: str, at: int, spec: TensorSpec) -> None:
        self._handle, self._name, self._spec = handle, name, spec
        self._at, self._end = at, at + spec.nbytes
        self._sums: list[int] = []
        self._crc, self._filled = 0, 0  # of the block under way

    def append(self, piece: npt.NDArray[Any]) -> None:
        array = np.ascontiguousarray(piece, dtype=np.dtype(self._spec.dtype).newbyteorder("<"))
        data = memoryview(array.reshape(-1).view(np.uint8).data)
        if self._at + len(data) > self._end:
            raise ValueError(f"{self._name}: more data than its shape {self._spec.shape} holds")
        _write_at(self._handle, data, self._at)
        self._at += len(data)
        while len(data):
            part = data[: BLOCK - self._filled]
            self._crc = zlib.crc32(part, self._crc)
            self._filled += len(part)
            data = data[len(part) :]
            if self._filled == BLOCK:
                self._close_block()

    def finish(self) -> list[int]:
        if self._at != self._end:
            raise ValueError(f"{self._name}: {self._end - self._at} bytes are missing")
        if self._filled:
            self._close_block()
        return self._sums

    def _close_block(self) -> None:
        self._sums.append(self._crc)
        self._crc, self._filled = 0, 0


def read_tensors(
    path: Path, *, mapped: bool, verify: bool
) -> tuple[dict[str, str], dict[str, Verified]]:
    """Metadata and tensors of a file of :class:`TensorWriter`.

    Its length, its header and its table of checksums are always verified.

    Parameters
    ----------
    path : Path
    mapped : bool
        Map the file into memory instead of reading it; blocks are then verified on first use.
    verify : bool
        Verify all of a mapped file now. A file that is read always is.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    CatalogFileError
        It is a folder, another format, or damaged.
    """
    if path.is_dir():
        raise CatalogFileError(f"{path}: expected a catalogue file, got a folder")
    with path.open("rb") as file:
        header, entries, metadata = _read_header(path, file)
        size = os.fstat(file.fileno()).st_size
        _check_size(path, entries, len(header), size)
        if mapped:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        else:
            content = _read_all(path, file, size)
    table = _read_table(path, content, header, entries)
    tensors: dict[str, Verified] = {}
    at = 0
    for name, (spec, begin) in entries.items():
        if name == _TABLE:
            continue
        data = content[begin : begin + spec.nbytes]
        count = _block_count(spec.nbytes)
        checksums = Checksums(path, name, data, table[at : at + count])
        at += count
        if verify or not mapped:
            checksums.verify()
        array = np.frombuffer(data, dtype=spec.dtype) if spec.nbytes else np.empty(0, spec.dtype)
        try:
            array = array.reshape(spec.shape)
        except (ValueError, OverflowError):  # no bytes, yet more of them than memory could address
            raise CatalogFileError(
                f"{path} is damaged: no array has the shape of its {name}"
            ) from None
        tensors[name] = Verified(array, checksums)
    return metadata, tensors


def whole_number(value: Any) -> int:
    """A count or a place from JSON, which has numbers of other kinds too, and infinity.

    Raises
    ------
    ValueError
        It is no integer from 0 to what int64 holds.
    """
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"expected an integer from 0 to 2^63 - 1, got {value!r}")
    return value


_Entries = dict[str, tuple[TensorSpec, int]]  # and where in the file it begins


def _read_header(path: Path, file: BinaryIO) -> tuple[bytes, _Entries, dict[str, str]]:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= _LONGEST_HEADER:
        raise CatalogFileError(f"{path}: expected a catalogue, got a file that is not safetensors")
    text = file.read(length)
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        raise CatalogFileError(
            f"{path}: expected a catalogue, got a file that is not safetensors, or a damaged or "
            "truncated one (its header is not JSON)"
        ) from None
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or _TABLE not in fields:
        raise CatalogFileError(
            f"{path}: expected a catalogue, got a safetensors file without checksums"
        )
    try:
        entries: _Entries = {
            name: (
                TensorSpec(_DTYPES[field["dtype"]], tuple(map(whole_number, field["shape"]))),
                8 + length + whole_number(field["data_offsets"][0]),
            )
            for name, field in fields.items()
        }
        ordered = dict(sorted(entries.items(), key=lambda entry: (entry[1][1], entry[1][0].nbytes)))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise CatalogFileError(f"{path} is damaged: its header describes no tensors") from None
    return start + text, ordered, metadata


def _check_size(path: Path, entries: _Entries, begin: int, size: int) -> None:
    """The tensors follow each other from the header to the end of the file."""
    for name, (spec, at) in entries.items():
        if at != begin or min(spec.shape, default=0) < 0:
            raise CatalogFileError(f"{path} is damaged: its header puts {name} at a wrong place")
        begin += spec.nbytes
    if size != begin:
        what = "truncated" if size < begin else "damaged"
        raise CatalogFileError(f"{path} is {what}: expected {begin} bytes, got {size}")


def _read_all(path: Path, file: BinaryIO, size: int) -> memoryview:
    content = np.empty(size, dtype=np.uint8).data
    file.seek(0)
    if file.readinto(content) != size:  # type: ignore[attr-defined]
        raise CatalogFileError(f"{path} is truncated: it became shorter while it was read")
    return content


def _read_table(
    path: Path, content: memoryview, header: bytes, entries: _Entries
) -> npt.NDArray[np.uint32]:
    spec, begin = entries[_TABLE]
    blocks = sum(_block_count(s.nbytes) for name, (s, _) in entries.items() if name != _TABLE)
    if spec.dtype != np.uint32 or spec.shape != (blocks + 2,):
        raise CatalogFileError(
            f"{path}: expected a catalogue, got a safetensors file whose checksums are not ours"
        )
    stored = bytes(content[begin : begin + spec.nbytes])
    table = np.frombuffer(stored, dtype="<u4")
    if zlib.crc32(stored[:-4]) != table[-1] or zlib.crc32(header) != table[-2]:
        raise CatalogFileError(f"{path} is damaged: its header or its checksums were changed")
    return table[:-2]


def _header(metadata: Mapping[str, str], specs: Mapping[str, TensorSpec]) -> bytes:
    fields: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, spec in specs.items():
        fields[name] = {
            "dtype": _NAMES[np.dtype(spec.dtype)],
            "shape": list(spec.shape),
            "data_offsets": [at, at + spec.nbytes],
        }
        at += spec.nbytes
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _block_count(nbytes: int) -> int:
    return -(-nbytes // BLOCK)


def _word(value: int) -> bytes:
    return struct.pack("<I", value)


def _write_at(handle: int, data: memoryview, offset: int) -> None:
    while len(data):
        written = os.pwrite(handle, data[: 1 << 30], offset)
        data, offset = data[written:], offset + written
