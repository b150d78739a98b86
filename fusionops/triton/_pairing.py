"""Two sides that are scored with each other, as the kernels of attention take them.

attention_fusion is a pairing of queries, the rows, with tokens, the columns, whose softmax goes
along the columns alone; bidirectional_fusion has both. `_packed` serves few tokens and `_flash`
many, either way with one and the same kernels for both operators.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusionops.triton import _philox

_MOST_TOKENS = 64  # of either side that a tile can hold


def mask_strides(mask: Tensor | None) -> tuple[int, int]:
    return (0, 0) if mask is None else (mask.stride(0), mask.stride(1))


def side_strides(side: Tensor) -> tuple[int, int, int]:
    """Strides of a side ``[B or 1, N, D]``: one that all entities share stays where it is."""
    return 0 if side.shape[0] == 1 else side.stride(0), side.stride(1), side.stride(2)


@dataclass(frozen=True)
class Side:
    """Tokens ``[B or 1, N, D]``, their values, None where they are themselves, and what exists."""

    tokens: Tensor
    value: Tensor | None
    mask: Tensor | None

    @property
    def values(self) -> Tensor:
        return self.tokens if self.value is None else self.value


@dataclass(frozen=True)
class Pairing:
    """Rows and columns that are scored with each other, and how."""

    rows: Side
    columns: Side
    heads: int
    scale: float
    dropout_p: float = 0.0
    seed: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows, columns and their values."""
        return self.rows.tokens, self.columns.tokens, self.rows.values, self.columns.values

    @property
    def entities(self) -> int:
        return max(self.rows.tokens.shape[0], self.columns.tokens.shape[0])

    @property
    def widths(self) -> tuple[int, int, int]:
        """Features of a head: those that are scored, of the rows' values, of the columns'."""
        sides = (self.rows.tokens, self.rows.values, self.columns.values)
        rows, row_values, column_values = (side.shape[2] // self.heads for side in sides)
        return rows, row_values, column_values

    @property
    def dtype(self) -> torch.dtype:
        return self.columns.tokens.dtype

    @property
    def fits_tile(self) -> bool:
        return max(self.rows.tokens.shape[1], self.columns.tokens.shape[1]) <= _MOST_TOKENS

    @property
    def swapped(self) -> Pairing:
        return replace(self, rows=self.columns, columns=self.rows)

    def arguments(self) -> list[object]:
        """What the kernels take from the tensors on, up to their tile."""
        rows, columns = self.rows, self.columns
        return [
            *self.tensors,
            rows.mask,
            columns.mask,
            self.seed if self.dropout_p > 0 else None,
            self.entities,
            self.heads,
            rows.tokens.shape[1],
            columns.tokens.shape[1],
            *self.widths,
            *(stride for side in self.tensors for stride in side_strides(side)),
            *mask_strides(rows.mask),
            *mask_strides(columns.mask),
            self.scale,
            *_philox.numbers(self.dropout_p),
        ]
