"""Rows of what reads and writes memory."""

from __future__ import annotations

import re

from ..types import CPP, SIZE
from .row import Operation, Row, UnsupportedError, row

_SPACES = ("global", "shared", "local", "param", "const")
_ATOMS = ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")
# How long and for whom a value is kept, and how it is ordered: threads here take turns, and see
# what others wrote at once.
_CACHE = "nc ca cg cs lu cv wb wt volatile weak relaxed acquire release acq_rel sc cta gpu sys"
_HINTS = r"L1_\w+ L2_\w+ unified v\d shared_cta param_entry param_func"


def space_of(operation: Operation) -> str:
    """The state space that an instruction names, or generic."""
    names = (modifier.split("_")[0] for modifier in operation.modifiers)
    return next((name for name in names if name in _SPACES), "generic")


def _load(operation: Operation) -> str:
    """ld: a value, or a vector of them."""
    values, count = operation.values, operation.vector()
    size = SIZE[operation.kind] * count
    source = values.memory(operation.operands[1], space_of(operation), size, "Read")
    puts = " ".join(values.put(to, f"x_[{i}]") for i, to in enumerate(operation.elements(0)))
    return f"{CPP[operation.kind]} x_[{count}]; memcpy(x_, {source}, sizeof x_); {puts}"


def _store(operation: Operation) -> str:
    """st: a value, or a vector of them."""
    values, count, kind = operation.values, operation.vector(), operation.kind
    to = values.memory(
        operation.operands[0], space_of(operation), SIZE[kind] * count, "Write", "x_"
    )
    data = ", ".join(values.typed(source, kind) for source in operation.elements(1))
    return f"{CPP[kind]} x_[{count}] = {{{data}}}; memcpy({to}, x_, sizeof x_);"


def _atomic(operation: Operation) -> str:
    """atom, and red, which has no result."""
    values, kind = operation.values, operation.kind
    if operation.vector() > 1:
        raise UnsupportedError(operation.instruction.text)
    to, (at, *sources) = "_", operation.operands
    if operation.opcode == "atom":
        to, at, *sources = operation.operands
    place = values.memory(at, space_of(operation), SIZE[kind], "Atomic")
    data = ", ".join(values.typed(source, kind) for source in sources)
    function = f"atomic_{operation.one_of(*_ATOMS)}<{CPP[kind]}>"
    return values.put(to, f"{function}({place}, {data})")


def _async_copy(operation: Operation) -> str:
    """cp.async.ca and .cg; the fourth operand is how much to read, or a predicate not to."""
    values = operation.values
    to, source, size, *rest = operation.operands
    read = size
    if rest and not (operation.has("L2_cache_hint") and len(rest) == 1):
        read = values.raw(rest[0])
        if re.match(r"!?%p", rest[0]):
            read = f"({read} ? 0 : {size})"
    to, source = values.address(to), values.address(source)
    return f"async_copy({to}, {source}, {size}, (int)({read}));"


def _async_wait(operation: Operation) -> str:
    return f"async_wait({operation.values.raw(operation.operands[0])});"


ROWS: list[Row] = [
    row("ld", None, "", _load, allows=f"{' '.join(_SPACES)} {_CACHE} {_HINTS}"),
    row("ldu", None, "", _load, allows=f"global {_HINTS}"),
    row("st", None, "", _store, allows=f"{' '.join(_SPACES)} {_CACHE} {_HINTS}"),
    row(
        "atom",
        None,
        "",
        _atomic,
        allows=f"global shared {' '.join(_ATOMS)} {_CACHE} {_HINTS} noftz",
    ),
    row(
        "red", None, "", _atomic, allows=f"global shared {' '.join(_ATOMS)} {_CACHE} {_HINTS} noftz"
    ),
    row("cp", None, "", _async_copy, needs="async", allows=f"ca cg shared global {_HINTS}"),
    row("cp", None, "", lambda _: "async_commit();", needs="async commit_group"),
    row("cp", None, "", _async_wait, needs="async wait_group"),
    row("cp", None, "", lambda _: "async_commit(); async_wait(0);", needs="async wait_all"),
    row("createpolicy", None, "", lambda op: op.values.put(op.operands[0], "0ull"), allows=".*"),
]
