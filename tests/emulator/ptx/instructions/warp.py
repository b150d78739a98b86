"""Rows of barriers, of what a warp does together, and of its matrices."""

from __future__ import annotations

import re

from ..types import CPP
from .row import Operation, Row, UnsupportedError, row


def _barrier_operands(operation: Operation, index: int, count: int) -> str:
    """The barrier's number and how many threads it waits for, 0 for all."""
    members = operation.b32(index + 1) if count > 1 else "0"
    return f"{operation.b32(index)}, {members}"


def _barrier(operation: Operation) -> str:
    return f'barrier({_barrier_operands(operation, 0, len(operation.operands))}, "bar.sync");'


def _arrive(operation: Operation) -> str:
    return f"barrier_arrive({_barrier_operands(operation, 0, 2)});"


def _barrier_reduction(operation: Operation) -> str:
    """bar.red: how many threads, or whether any or all, came with a true predicate."""
    members = _barrier_operands(operation, 1, len(operation.operands) - 2)
    vote = operation.values.raw(operation.operands[-1])
    count = f"barrier_count({members}, {vote})"
    if operation.has("and"):
        count = f"barrier_count({members}, !({vote})) == 0"
    elif operation.has("or"):
        count += " != 0"
    return operation.values.put(operation.operands[0], count)


def _shuffle(operation: Operation) -> str:
    to, in_range = operation.destinations()
    kind = operation.one_of("up", "down", "bfly", "idx")
    arguments = ", ".join(operation.b32(i) for i in range(1, 5))
    value = f"uint32_t x_ = shuffle(Shuffle::{kind}, {arguments}, q_);"
    put = operation.values.put
    return f"bool q_; {value} {put(to, 'x_')} {put(in_range, 'q_')}"


_VOTES = {
    "ballot": 'ballot(m_, q_, "vote.ballot")',
    "any": 'ballot(m_, q_, "vote.any") != 0',
    "all": 'ballot(m_, !q_, "vote.all") == 0',
    "uni": "vote_uniform(m_, q_)",
}


def _vote(operation: Operation) -> str:
    vote = operation.values.raw(operation.operands[1])
    result = _VOTES[operation.one_of(*_VOTES)]
    put = operation.values.put(operation.operands[0], result)
    return f"bool q_ = {vote}; uint32_t m_ = {operation.b32(2)}; {put}"


def _match(operation: Operation) -> str:
    to, every = operation.destinations()
    everyone = "true" if operation.has("all") else "false"
    value = operation.values.typed(operation.operands[1], operation.kind)
    put = operation.values.put
    result = f"uint32_t x_ = match({everyone}, {value}, {operation.b32(2)}, q_);"
    return f"bool q_; {result} {put(to, 'x_')} {put(every, 'q_')}"


def _redux(operation: Operation) -> str:
    how = operation.one_of("add", "min", "max", "and", "or", "xor")
    how += "_" if how in ("and", "or", "xor") else ""
    value = operation.values.typed(operation.operands[1], operation.kind)
    result = f"reduce<{CPP[operation.kind]}>(Reduce::{how}, {value}, {operation.b32(2)})"
    return operation.values.put(operation.operands[0], result)


def _matrices(operation: Operation) -> tuple[int, str]:
    """How many matrices ldmatrix and stmatrix move, and whether they are transposed."""
    count = next(int(m[1:]) for m in operation.modifiers if re.fullmatch(r"x\d", m))
    return count, "true" if operation.has("trans") else "false"


def _load_matrices(operation: Operation) -> str:
    count, transposed = _matrices(operation)
    address = operation.values.address(operation.operands[1])
    to = operation.elements(0)
    puts = " ".join(operation.values.put(name, f"x_[{i}]") for i, name in enumerate(to))
    return f"uint32_t x_[4]; load_matrices({count}, {transposed}, x_, {address}); {puts}"


def _store_matrices(operation: Operation) -> str:
    count, transposed = _matrices(operation)
    address = operation.values.address(operation.operands[0])
    data = ", ".join(operation.values.typed(name, "b32") for name in operation.elements(1))
    return f"uint32_t x_[4] = {{{data}}}; store_matrices({count}, {transposed}, x_, {address});"


# The element of A and B, and the depths of m16n8kK that it has.
_MMA = {
    "bf16": ("HalfElement<bf16>", (8, 16)),
    "f16": ("HalfElement<f16>", (8, 16)),
    "tf32": ("Tf32Element", (4, 8)),
    "s8": ("Int8Element", (16, 32)),
}
_ACCUMULATORS = {"f32": "float", "s32": "int32_t"}


def _mma(operation: Operation) -> str:
    """mma.sync.m16n8kK.row.col: D = A B + C, with the types of D, A, B, C in that order."""
    values = operation.values
    to, a, b, c = operation.kinds
    depth = int(operation.modifiers[2].partition("k")[2])
    element, depths = _MMA.get(a, ("", ()))
    if a != b or to != c or to not in _ACCUMULATORS or depth not in depths:
        raise UnsupportedError(operation.instruction.text)
    kind = _ACCUMULATORS[to]
    sums = ", ".join(values.typed(name, to) for name in operation.elements(3))
    left, right = (
        ", ".join(values.typed(name, "b32") for name in operation.elements(i)) for i in (1, 2)
    )
    puts = " ".join(values.put(name, f"c_[{i}]") for i, name in enumerate(operation.elements(0)))
    return (
        f"{kind} c_[4] = {{{sums}}}; uint32_t a_[4] = {{{left}}}, b_[2] = {{{right}}}; "
        f"mma<{element}, {depth}>(c_, a_, b_); {puts}"
    )


def _transpose(operation: Operation) -> str:
    return operation.values.put(operation.operands[0], f"transpose_matrix({operation.b32(1)})")


def _warp_sync(operation: Operation) -> str:
    return f"warp_sync({operation.b32(0)});"


def _active(operation: Operation) -> str:
    return operation.values.put(operation.operands[0], "active_mask()")


_BARRIERS = [
    entry
    for opcode in ("bar", "barrier")
    for entry in (
        row(opcode, None, "", _barrier, needs="sync", allows="cta aligned"),
        row(opcode, None, "", _arrive, needs="arrive", allows="cta aligned"),
        row(opcode, None, "", _barrier_reduction, needs="red", allows="cta aligned popc and or"),
        row(opcode, None, "", _warp_sync, needs="warp sync"),
    )
]

ROWS: list[Row] = [
    *_BARRIERS,
    row("shfl", None, "", _shuffle, needs="sync", allows="up down bfly idx"),
    row("vote", None, "", _vote, needs="sync", allows="ballot any all uni"),
    row("match", None, "", _match, needs="sync", allows="any all"),
    row("redux", None, "", _redux, needs="sync", allows="add min max and or xor"),
    row("activemask", None, "", _active),
    row(
        "ldmatrix",
        ("b16",),
        "",
        _load_matrices,
        needs="sync aligned m8n8",
        allows=r"x\d trans shared.*",
    ),
    row(
        "stmatrix",
        ("b16",),
        "",
        _store_matrices,
        needs="sync aligned m8n8",
        allows=r"x\d trans shared.*",
    ),
    row("movmatrix", ("b16",), "", _transpose, needs="sync aligned m8n8 trans"),
    row("mma", None, "", _mma, needs="sync aligned row col", allows=r"m16n8k\d+ tf32"),
]
