"""A row of the instruction table, and the instruction that it is asked to translate."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ..names import Names
from ..operands import Operands
from ..syntax import Instruction, split_operands
from ..types import CPP, REALS, unsigned


class UnsupportedError(ValueError):
    """An instruction, or a modifier of one, that the table does not have."""


@dataclass
class Operation:
    """One instruction in the words of the table."""

    instruction: Instruction
    names: Names
    jump_tables: dict[str, tuple[str, ...]]
    values: Operands = field(init=False)
    opcode: str = field(init=False)
    modifiers: tuple[str, ...] = field(init=False)  # in order, types among them
    kind: str = field(init=False)  # the last type: what is computed in
    operands: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.values = Operands(self.names)
        self.opcode, *modifiers = self.instruction.parts
        self.modifiers = tuple(modifiers)
        self.operands = self.instruction.operands
        self.kind = next((m for m in reversed(modifiers) if m in CPP), "")

    @property
    def kinds(self) -> list[str]:
        """The types among the modifiers, tf32 too, in order."""
        return [m for m in self.modifiers if m in CPP or m == "tf32"]

    def has(self, modifier: str) -> bool:
        """Whether a modifier is there."""
        return modifier in self.modifiers

    def one_of(self, *modifiers: str) -> str | None:
        """The first of the instruction's modifiers that is among these."""
        return next((m for m in self.modifiers if m in modifiers), None)

    def vector(self) -> int:
        """How many values a load or store moves."""
        return int(next((m[1:] for m in self.modifiers if re.fullmatch(r"v\d", m)), "1"))

    def destinations(self) -> tuple[str, str]:
        """The two results of `d|p`; `_` stands for what is not there."""
        first, _, second = self.operands[0].partition("|")
        return first.strip(), second.strip() or "_"

    def elements(self, index: int) -> tuple[str, ...]:
        """The members of a vector operand, or the one operand."""
        text = self.operands[index]
        return split_operands(text[1:-1]) if text.startswith("{") else (text,)

    def b32(self, index: int) -> str:
        """An operand as 32 bits, whatever the instruction computes in."""
        return self.values.typed(self.operands[index], "b32")


Emit = Callable[[Operation], str]
_RENDER = {"t": "typed", "u": "unsigned"}


@dataclass(frozen=True)
class Row:
    """How an opcode is translated.

    `operands` has a letter for each source: `t`, a value of the instruction's type; `u`, of the
    unsigned type of its width; `b`, 32 bits; `r`, bits as they are; `n`, the text itself. `result`
    is a C++ expression over them, in which T and U are those two types; or a function writes the
    whole statement. An instruction with a modifier that the row does not list is not translated:
    better refused than done otherwise.
    """

    opcode: str
    kinds: tuple[str, ...] | None
    operands: str
    result: str | Emit
    needs: frozenset[str] = frozenset()
    allows: frozenset[str] = frozenset()

    def fits(self, operation: Operation) -> bool:
        """Whether the row serves this instruction."""
        modifiers = {m for m in operation.modifiers if m not in CPP}
        return (
            (self.kinds is None or operation.kind in self.kinds)
            and self.needs <= modifiers
            and all(m in self.needs or self._allowed(m) for m in modifiers)
        )

    def _allowed(self, modifier: str) -> bool:
        return any(re.fullmatch(pattern, modifier) for pattern in self.allows)

    def statement(self, operation: Operation) -> str:
        """The C++ statement of an instruction that fits."""
        if not isinstance(self.result, str):
            return self.result(operation)
        sources = [
            self._source(letter, text, operation)
            for letter, text in zip(self.operands, operation.operands[1:], strict=True)
        ]
        kind = operation.kind or "b32"
        value = self.result.format(*sources, T=CPP[kind], U=CPP[unsigned(kind)])
        if operation.has("sat") and kind in REALS:
            value = f"saturate({value})"
        return operation.values.put(operation.operands[0], value)

    @staticmethod
    def _source(letter: str, text: str, operation: Operation) -> str:
        if letter in _RENDER:
            return getattr(operation.values, _RENDER[letter])(text, operation.kind)
        if letter == "b":
            return operation.values.typed(text, "b32")
        return text if letter == "n" else operation.values.raw(text)


def row(
    opcode: str,
    kinds: tuple[str, ...] | None,
    operands: str,
    result: str | Emit,
    *,
    needs: str = "",
    allows: str = "",
) -> Row:
    """A row, with modifiers as words; those allowed may be regular expressions."""
    return Row(opcode, kinds, operands, result, frozenset(needs.split()), frozenset(allows.split()))
