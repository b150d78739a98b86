"""Ragged lists of item indices per user, in every form that users have them in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Ragged = tuple[Tensor, Tensor]


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
    if isinstance(value, Tensor):
        pair = _from_tensor(name, value)
    elif hasattr(value, "indptr") and hasattr(value, "indices"):
        if value.shape[1] != columns:
            raise ValueError(f"{name}: expected {columns} columns, got {value.shape[1]}")
        pair = torch.as_tensor(value.indptr), torch.as_tensor(value.indices)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        pair = torch.as_tensor(value[0]), torch.as_tensor(value[1])
    else:
        raise TypeError(
            f"{name}: expected a pair (offsets, indices), a jagged nested tensor, a torch sparse "
            f"CSR tensor or a scipy CSR matrix, got {type(value).__name__}"
        )
    offsets, indices = pair
    for part, tensor in (("offsets", offsets), ("indices", indices)):
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
            raise TypeError(f"{name}: expected integer {part}, got {tensor.dtype}")
        if tensor.dim() != 1:
            raise ValueError(f"{name}: expected 1-d {part}, got shape {list(tensor.shape)}")
    if offsets.shape[0] != rows + 1:
        raise ValueError(
            f"{name}: expected lists for {rows} users ({rows + 1} offsets), "
            f"got {offsets.shape[0] - 1} ({offsets.shape[0]} offsets)"
        )
    return offsets.to(device, torch.int64), indices.to(device, torch.int64)


def _from_tensor(name: str, value: Any) -> Ragged:
    if value.layout == torch.sparse_csr:
        return value.crow_indices(), value.col_indices()
    if not value.is_nested or value.layout != torch.jagged:
        raise TypeError(
            f"{name}: expected a jagged nested tensor or a sparse CSR tensor, got a tensor of "
            f"layout {value.layout}"
        )
    lengths = value.lengths()
    if lengths is None:
        return value.offsets(), value.values()
    # With holes between the rows: take the first lengths[i] values of each.
    starts = value.offsets()[:-1]
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    row = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    place = torch.arange(len(row), device=lengths.device) - offsets[row] + starts[row]
    return offsets, value.values()[place]
