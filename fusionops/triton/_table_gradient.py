"""The gradient of a table that entries read by id: a sum over the entries of each id, in order.

The entries are sorted by id, stably, so that those of an id stand side by side in a run, in their
own order. A program adds up a chunk of sorted entries, a row after the other. A run that is whole
in its chunk is written to the table; of one that goes on beyond it the chunk's part is kept, and
a second kernel adds up the parts where the run began. So nothing depends on how often an id
appears but the work that it is, and no sum on the order in which programs run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusionops.triton._launch import launch

_LENGTH = 32  # entries of a chunk, each a read from cache that waits for the one of its id before
_UNROLLED = 8  # of those that are under way together
_PARTS = 16  # chunks of a run that are added up at a time
_WIDEST = 1024


@triton.jit
def _key(keys, at, entries):
    """The id at a place in the order; -1, which is no id, outside."""
    inside = (at >= 0) & (at < entries)
    return tl.load(keys + at, mask=inside, other=-1).to(tl.int64)


@triton.jit
def _chunks(
    out, parts, keys, order, owners, factors, slopes, grad, query, entries, table, width,
    grad_b, grad_d, query_b, query_d,
    LENGTH: tl.constexpr, UNROLLED: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    pieces = tl.cdiv(width, WIDTH)
    chunk = (tl.program_id(0) // pieces).to(tl.int64)
    column = ((tl.program_id(0) % pieces) * WIDTH + tl.arange(0, WIDTH)).to(tl.int64)
    begin = chunk * LENGTH
    last = tl.minimum(begin + LENGTH, entries) - 1
    before = _key(keys, begin - 1, entries)
    key = _key(keys, begin, entries)
    sums = tl.zeros([WIDTH], tl.float32)
    for first in range(0, LENGTH, UNROLLED):
        for step in tl.static_range(UNROLLED):
            at = begin + first + step
            counted = (at <= last) & (key >= 0) & (key < table)
            entry = tl.load(order + at, mask=counted, other=0)
            owner = tl.load(owners + entry, mask=counted, other=0)
            wanted = column < tl.where(counted, width, 0)
            factor = tl.load(factors + entry, mask=counted, other=0)
            row = tl.load(grad + owner * grad_b + column * grad_d, mask=wanted, other=0)
            sums += factor * row.to(tl.float32)
            if slopes is not None:
                slope = tl.load(slopes + entry, mask=counted, other=0)
                row = tl.load(query + owner * query_b + column * query_d, mask=wanted, other=0)
                sums += slope * row.to(tl.float32)
            following = _key(keys, at + 1, entries)
            ends = counted & ((following != key) | (at == last))
            goes_on = (at == last) & (following == key)
            whole = ends & (key != before) & (following != key)
            part = chunk * 2 + tl.where(key == before, 0, 1)
            place = out + key * width + column
            tl.store(place, sums.to(out.dtype.element_ty), mask=column < tl.where(whole, width, 0))
            kept = tl.where(ends & ((key == before) | goes_on), width, 0)
            tl.store(parts + part * width + column, sums, mask=column < kept)
            sums = tl.where(ends, 0.0, sums)
            key = following


@triton.jit
def _runs(
    out, parts, keys, entries, table, width,
    LENGTH: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The sum of the run that begins in a chunk and goes on beyond it, if there is one."""
    pieces = tl.cdiv(width, WIDTH)
    chunk = (tl.program_id(0) // pieces).to(tl.int64)
    column = ((tl.program_id(0) % pieces) * WIDTH + tl.arange(0, WIDTH)).to(tl.int64)
    begin = chunk * LENGTH
    key = _key(keys, begin + LENGTH - 1, entries)
    begins = (key >= 0) & (key < table) & (key != _key(keys, begin - 1, entries))
    more = begins & (key == _key(keys, begin + LENGTH, entries))
    limit = tl.where(more, width, 0)
    first = tl.load(parts + (chunk * 2 + 1) * width + column, mask=column < limit, other=0)
    sums = tl.zeros([PARTS, WIDTH], tl.float32)
    after = chunk + 1
    while more:  # carries no tensor of places, which Triton 3.6 does not compile
        other = after + tl.arange(0, PARTS)
        own = _key(keys, other * LENGTH, entries) == key
        place = parts + (other * 2)[:, None] * width + column[None, :]
        wanted = own[:, None] & (column < width)[None, :]
        sums += tl.load(place, mask=wanted, other=0)
        more = tl.min(own.to(tl.int32), 0) == 1
        after += PARTS
    result = (first + tl.sum(sums, 0)).to(out.dtype.element_ty)
    tl.store(out + key * width + column, result, mask=column < limit)


def table_gradient(
    ids: Tensor,
    owners: Tensor,
    factors: Tensor,
    slopes: Tensor | None,
    grad: Tensor,
    query: Tensor | None,
    table: Tensor,
) -> Tensor:
    """``out[ids[t]] += factors[t] * grad[owners[t]] + slopes[t] * query[owners[t]]``, like `table`.

    Ids that are not in the table are left out.
    """
    rows, width = table.shape
    out = table.new_zeros((rows, width))
    entries = ids.shape[0]
    if entries == 0 or out.numel() == 0:
        return out
    keys, order = torch.sort(ids, stable=True)
    columns = min(triton.next_power_of_2(width), _WIDEST)
    chunks = triton.cdiv(entries, _LENGTH)
    grid = (chunks * triton.cdiv(width, columns),)
    parts = out.new_empty((chunks, 2, width), dtype=torch.float32)
    query_strides = (0, 0) if query is None else (query.stride(0), query.stride(1))
    meta = {"LENGTH": _LENGTH, "WIDTH": columns, "num_warps": max(1, min(4, columns // 128))}
    launch(
        _chunks, grid, out, parts, keys, order, owners, factors, slopes, grad, query, entries,
        rows, width, *grad.stride(), *query_strides, UNROLLED=_UNROLLED, **meta,
    )  # fmt: skip
    launch(_runs, grid, out, parts, keys, entries, rows, width, PARTS=_PARTS, **meta)
    return out
