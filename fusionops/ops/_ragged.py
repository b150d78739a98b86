"""Ragged lists of item indices per user, in every form that users have them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Ragged = tuple[Tensor, Tensor]

_FORMS = (
    "a pair (offsets, indices), a jagged nested tensor, a torch sparse CSR tensor or a scipy CSR "
    "matrix"
)


def as_ragged(name: str, value: Any, rows: int, columns: int, device: torch.device) -> Ragged:
    """``(offsets [rows + 1], indices [nnz])`` as int64 tensors on `device`.

    Parameters
    ----------
    name : str
        The argument, for error messages.
    value : pair, jagged nested tensor, torch sparse CSR tensor or scipy CSR matrix
        Every stored entry of a CSR matrix counts, whatever its value.
    rows, columns : int
        Numbers of users and items. Index values are checked by the kernel, not here.
    """
    pair: tuple[Any, Any]
    if isinstance(value, Tensor):
        pair = _from_tensor(name, value, columns)
    elif getattr(value, "format", None) == "csr" and hasattr(value, "indptr"):
        _check_columns(name, value, columns)
        pair = value.indptr, value.indices
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        pair = value[0], value[1]
    else:
        raise TypeError(f"{name}: expected {_FORMS}, got {_kind(value)}")
    offsets, indices = _integers(name, "offsets", pair[0]), _integers(name, "indices", pair[1])
    if offsets.shape[0] != rows + 1:
        raise ValueError(
            f"{name}: expected lists for {rows} users ({rows + 1} offsets), "
            f"got {offsets.shape[0] - 1} ({offsets.shape[0]} offsets)"
        )
    if device.type != "meta" and (offsets.is_meta or indices.is_meta):
        raise ValueError(f"{name}: expected the device of item ({device}), got meta tensors")
    # Callers may well exclude by the tensor that is their target, or name two lists by the same
    # offsets.
    return own(offsets.to(device, torch.int64)), own(indices.to(device, torch.int64))


def check_values(name: str, ragged: Ragged, columns: int) -> None:
    """IndexError unless offsets rise from 0 to the number of indices, all in ``[0, columns)``.

    What the kernels check themselves, for implementations that are not kernels.
    """
    offsets, indices = ragged
    check_offsets(f"{name}: offsets", offsets, len(indices), "indices")
    check_indices(name, indices, columns)


def check_offsets(name: str, offsets: Tensor, size: int, entries: str) -> None:
    """IndexError unless offsets rise from 0 to `size`, the number of `entries`."""
    if offsets[0] != 0 or offsets[-1] != size or bool((offsets.diff() < 0).any()):
        raise IndexError(
            f"{name} must rise from 0 to the number of {entries} ({size}), "
            f"got {offsets.tolist()[:8]}"
        )


def check_indices(name: str, indices: Tensor, columns: int) -> None:
    """IndexError unless all are in ``[0, columns)``."""
    wrong = (indices < 0) | (indices >= columns)
    if bool(wrong.any()):
        raise IndexError(
            f"{name}: index {int(indices[wrong][0])} is out of range for {columns} items"
        )


def check_targets(target: Tensor, ignore_index: int, columns: int) -> None:
    """IndexError unless every target is in ``[0, columns)`` or ignored; as the kernels check."""
    wrong = (target != ignore_index) & ((target < 0) | (target >= columns))
    if bool(wrong.any()):
        position = int(wrong.nonzero()[0])
        raise IndexError(
            f"target: index {int(target[position])} at position {position} is out of range for "
            f"{columns} items"
        )


def own(tensor: Tensor) -> Tensor:
    """A view: Dynamo refuses one tensor in two places of a Function."""
    return tensor.view_as(tensor)


def _integers(name: str, part: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and min(value.strides, default=0) < 0:
        value = value.copy()  # torch takes no negative strides
    elif isinstance(value, (list, tuple)) and not value:
        value = np.empty(0, np.int64)  # torch would take it for float32
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}: expected integer {part}, got {type(value).__name__}") from None
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected integer {part}, got {tensor.dtype}")
    if tensor.dim() != 1:
        raise ValueError(f"{name}: expected 1-d {part}, got shape {list(tensor.shape)}")
    return tensor


def _check_columns(name: str, value: Any, columns: int) -> None:
    if len(value.shape) != 2 or value.shape[1] != columns:
        raise ValueError(f"{name}: expected {columns} columns, got shape {list(value.shape)}")


def _kind(value: Any) -> str:
    form = getattr(value, "format", None)
    return f"{type(value).__name__} of format {form}" if form else type(value).__name__


def _from_tensor(name: str, value: Any, columns: int) -> Ragged:
    if value.layout == torch.sparse_csr:
        _check_columns(name, value, columns)
        return value.crow_indices(), value.col_indices()
    if not value.is_nested or value.layout != torch.jagged:
        raise TypeError(f"{name}: expected {_FORMS}, got a tensor of layout {value.layout}")
    return unpacked(value)


def unpacked(jagged: Any) -> Ragged:
    """The offsets and the rows of a jagged nested tensor, without the holes that it may have."""
    # Not by contiguous(), whose gradient torch 2.13 refuses.
    lengths = jagged.lengths()
    if lengths is None:
        return jagged.offsets(), jagged.values()
    # The first lengths[i] rows of each.
    starts = jagged.offsets()[:-1]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    row = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    place = torch.arange(len(row), device=lengths.device) - offsets[row] + starts[row]
    return offsets, jagged.values()[place]
