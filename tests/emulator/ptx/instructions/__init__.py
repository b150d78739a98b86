"""The instruction table: a row for each form of an opcode, gathered from the files of a subject."""

from __future__ import annotations

from collections import defaultdict

from . import arithmetic, control, memory, movement, warp
from .row import Operation, Row, UnsupportedError

TABLE: dict[str, list[Row]] = defaultdict(list)
for _row in [*arithmetic.ROWS, *control.ROWS, *memory.ROWS, *movement.ROWS, *warp.ROWS]:
    TABLE[_row.opcode].append(_row)


def statement(operation: Operation) -> str:
    """The C++ statement of an instruction; UnsupportedError where no row fits."""
    for row in TABLE.get(operation.opcode, []):
        if row.fits(operation):
            return row.statement(operation)
    raise UnsupportedError(operation.instruction.text)


__all__ = ["TABLE", "Operation", "UnsupportedError", "statement"]
