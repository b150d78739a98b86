"""Rows of control flow: branches, calls, and what only orders or advises."""

from __future__ import annotations

import re

from ..names import mangle
from ..syntax import split_operands
from .row import Operation, Row, UnsupportedError, row

_CALL = re.compile(r"(?:\((.*?)\)\s*,\s*)?([\w$%]+)\s*(?:,\s*\((.*?)\))?(?:\s*,\s*\w+)?")


def _branch(operation: Operation) -> str:
    return f"goto {mangle(operation.operands[0])};"


def _branch_indexed(operation: Operation) -> str:
    index = operation.values.raw(operation.operands[0])
    labels = operation.jump_tables[operation.operands[1]]
    cases = " ".join(f"case {i}: goto {mangle(label)};" for i, label in enumerate(labels))
    return f'switch ({index}) {{ {cases} default: fail("brx.idx past its table"); }}'


def _call(operation: Operation) -> str:
    """A call of a function of the module, or of one of CUDA's own; never through a pointer."""
    match = _CALL.fullmatch(", ".join(operation.operands))
    results, function, arguments = match[1] or "", match[2], match[3] or ""
    data = [operation.names.arrays[name] for name in split_operands(arguments)]
    to = [operation.names.arrays[name] for name in split_operands(results)]
    if function == "vprintf":
        return f"device_printf({', '.join(data)}, {to[0] if to else 'nullptr'});"
    if function == "__assertfail":
        return f"device_assert({', '.join(data)});"
    if function not in {known.name for known in operation.names.module.functions}:
        raise UnsupportedError(operation.instruction.text)
    return (
        f"char* a_[] = {{{', '.join([*data, 'nullptr'])}}}; "
        f"char* r_[] = {{{', '.join([*to, 'nullptr'])}}}; {mangle(function)}(a_, r_);"
    )


def _nothing(_: Operation) -> str:
    return ";"


# Order between threads that take turns, and advice to a cache that is not there.
_ADVICE = ("membar", "fence", "prefetch", "prefetchu", "discard", "applypriority", "brkpt")

ROWS: list[Row] = [
    row("bra", None, "", _branch, allows="uni"),
    row("brx", None, "", _branch_indexed, needs="idx", allows="uni"),
    row("call", None, "", _call, allows="uni"),
    row("ret", None, "", lambda _: "return;", allows="uni"),
    row("exit", None, "", lambda _: "exit_thread();"),
    row("trap", None, "", lambda _: 'fail("trap");'),
    row("nanosleep", None, "", lambda _: "yield_thread();"),
    *(row(opcode, None, "", _nothing, allows=".*") for opcode in _ADVICE),
]
