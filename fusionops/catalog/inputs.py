"""What callers hand over as vectors: arrays, tensors, memory maps and streams of chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionops import checks

PANEL = 32
"""Items in a panel."""

_SHARED = ("torch.float16", "torch.float32", "torch.float64")  # NumPy has no other floats

_BLOCK_BYTES = 8 * 1024 * 1024  # float32 rows handled at a time


def matrix(name: str, value: Any) -> npt.NDArray[Any]:
    """`value` as a 2-d array of numbers, without a copy where it is one already."""
    array = as_array(name, value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name}: expected 2 dimensions, got shape {list(array.shape)}")
    return array


def as_array(name: str, value: Any) -> npt.NDArray[Any]:
    """`value` as an array, without a copy where it is one, or a tensor that NumPy knows.

    Raises
    ------
    TypeError, ValueError
        What NumPy makes no array of, such as rows of unequal lengths.
    """
    if isinstance(value, (list, tuple)):
        value = [_without_torch(name, row) for row in value]
    value = _without_torch(name, value)
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            f"{name}: expected an array, or rows of one length, got a {type(value).__name__} that "
            f"NumPy makes no array of: {error}"
        ) from None


def float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """In float32 and aligned, without a copy where it is; too large a number becomes infinite."""
    with np.errstate(over="ignore"):
        result = array.astype(np.float32, copy=False)
    return np.require(result, requirements="A")


def count(name: str, value: Any) -> int:
    """`value` must be a positive integer."""
    return int(checks.count(name, value, 1, (int, np.integer)))


def is_stream(value: Any) -> bool:
    """Whether `value` hands out chunks: an iterable that is neither an array nor a sequence."""
    if isinstance(value, Iterator):
        return True
    return isinstance(value, Iterable) and not any(
        hasattr(value, name) for name in ("__array__", "__array_interface__", "__len__")
    )


def block_rows(width: int) -> int:
    """Rows of a block: whole panels, a few MiB."""
    return max(PANEL, _BLOCK_BYTES // (4 * max(1, width)) // PANEL * PANEL)


def array_blocks(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.float32]]:
    """The rows of an array in float32 blocks of :func:`block_rows`."""
    step = block_rows(array.shape[1])
    for start in range(0, len(array), step):
        yield float32(array[start : start + step])


def stream_blocks(chunks: Iterable[Any]) -> Iterator[npt.NDArray[np.float32]]:
    """The rows of chunks of any size in float32 blocks of :func:`block_rows`.

    A block is valid until the next one is asked for. The first is empty where all chunks are, so
    that the width is known.

    Raises
    ------
    TypeError, ValueError
        A chunk that is not a matrix of numbers or not as wide as the first, or no chunk at all.
    """
    buffer: npt.NDArray[np.float32] | None = None
    filled, handed_out = 0, False
    for at, chunk in enumerate(chunks):
        rows = matrix(f"vectors: chunk {at}", chunk)
        if buffer is None:
            buffer = np.empty((block_rows(rows.shape[1]), rows.shape[1]), dtype=np.float32)
        if rows.shape[1] != buffer.shape[1]:
            raise ValueError(
                f"vectors: expected chunks of width {buffer.shape[1]} as the first, got "
                f"{rows.shape[1]} in chunk {at}"
            )
        while len(rows):
            taken = rows[: len(buffer) - filled]
            buffer[filled : filled + len(taken)] = float32(taken)
            filled += len(taken)
            rows = rows[len(taken) :]
            if filled == len(buffer):
                yield buffer
                filled, handed_out = 0, True
    if buffer is None:
        raise ValueError("vectors: expected at least one chunk [n, D], got an empty stream")
    if filled or not handed_out:
        yield buffer[:filled]


def _without_torch(name: str, value: Any) -> Any:
    """A tensor as an array that shares its memory; torch is not imported for it."""
    if not (type(value).__module__.partition(".")[0] == "torch" or hasattr(value, "detach")):
        return value
    if value.device.type != "cpu" or str(value.layout) != "torch.strided":
        raise TypeError(
            f"{name}: expected a dense tensor on the CPU, got one of layout {value.layout} on "
            f"{value.device}"
        )
    value = value.detach()
    try:
        if value.is_floating_point() and str(value.dtype) not in _SHARED:
            value = value.float()
        return value.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{name}: expected numbers, got dtype {value.dtype}: {error}") from None
