"""Which pairs of users and items have no part in a softmax, as kernels look it up tile by tile.

Lists are sorted once a call, all of them together, as keys ``row * columns + column``. A program
that walks the columns in ascending order keeps, for each of its rows, a cursor into the keys: a
tile without an entry costs a comparison, and one with entries a turn of a loop for each that a row
has in it. No mask of users by items exists, and lists may be of any length. Toward the items, where
programs have blocks of items and walk the users, the same keys are sorted the other way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

_NONE = torch.iinfo(torch.int64).max  # the key of what excludes nothing; it ends the keys as well


class Lists(NamedTuple):
    """Sorted keys ``row * columns + column`` of the excluded pairs, closed by a sentinel."""

    keys: Tensor
    rows: int
    columns: int

    def transposed(self) -> Lists:
        keys = self.keys % self.columns * self.rows + self.keys // self.columns
        keys = torch.where(self.keys == _NONE, _NONE, keys)
        return Lists(keys.sort().values, self.columns, self.rows)

    def starts(self, runs: int, run: int) -> Tensor:
        """``[runs, rows]``: where the keys of a row begin in each run of columns."""
        first = torch.arange(runs, device=self.keys.device) * run
        row = torch.arange(self.rows, device=self.keys.device) * self.columns
        return torch.searchsorted(self.keys, first.unsqueeze(1) + row)

    def kept(self) -> Tensor:
        """``[rows]``: how many columns are not excluded, in float32."""
        first = torch.ones_like(self.keys)
        first[1:] = self.keys[1:] != self.keys[:-1]
        # One in front, so that position i has the count of different keys before key i.
        before = torch.nn.functional.pad(first.cumsum(0), (1, 0))
        row = torch.arange(self.rows + 1, device=self.keys.device) * self.columns
        distinct = before[torch.searchsorted(self.keys, row)].diff()
        return (self.columns - distinct).float()


def sorted_lists(
    offsets: Tensor | None, indices: Tensor | None, target: Tensor, columns: int
) -> Lists | None:
    """The excluded pairs of ragged lists, less each row's own target and what is out of range."""
    rows = target.shape[0]
    if offsets is None or indices is None or 0 in (rows, columns, indices.shape[0]):
        return None
    place = torch.arange(indices.shape[0], device=indices.device)
    row = torch.searchsorted(offsets[1:].contiguous(), place, right=True).clamp_(max=rows - 1)
    listed = (indices >= 0) & (indices < columns) & (indices != target[row])
    listed &= (place >= offsets[0]) & (place < offsets[-1])
    keys = torch.where(listed, row * columns + indices, _NONE)
    # Not by pad, whose value is a double: the largest integer would come back as the smallest.
    keys = torch.cat([keys, keys.new_full((1,), _NONE)])
    return Lists(keys.sort().values, rows, columns)


@triton.jit
def open_lists(keys, starts, part, i, i_there, rows, columns, WIDTH: tl.constexpr):
    """Of each row the key of its column 0, the cursor at the run's first entry, and its key."""
    cursor = tl.load(starts + part.to(tl.int64) * rows + i, mask=i_there, other=0)
    # Beyond the last row, one that no key is below after any number of columns.
    first = tl.where(i_there, i.to(tl.int64) * columns, -WIDTH - 2147483648)
    return first, cursor, tl.load(keys + cursor)


@triton.jit
def mark(gone, keys, cursor, key, first, start, WIDTH: tl.constexpr):
    """Marks the entries of rows in the columns from `start` on.

    `first` is the key of each row's column 0, `key` the one at its `cursor`. Returns the marks, and
    cursors and keys beyond the tile.
    """
    column = tl.arange(0, WIDTH)
    begin = first + start
    listed = key < begin + WIDTH
    while tl.max(listed.to(tl.int32), 0) != 0:
        at = tl.where(listed, key - begin, -1).to(tl.int32)
        gone = gone | (at[:, None] == column[None, :])
        cursor += listed.to(tl.int64)
        key = tl.load(keys + cursor)
        listed = key < begin + WIDTH
    return gone, cursor, key
