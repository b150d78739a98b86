"""Rows of what moves, converts and compares values."""

from __future__ import annotations

from ..types import CPP, PAIRS, REALS, SIZE
from .row import Operation, Row, UnsupportedError, row

_ROUNDING = {
    "rn": "kNearest",
    "rna": "kNearest",
    "rz": "kZero",
    "rm": "kDown",
    "rp": "kUp",
}
_INTEGRAL = {"rni": "kNearest", "rzi": "kZero", "rmi": "kDown", "rpi": "kUp"}


def _move(operation: Operation) -> str:
    """mov; a vector on one side packs or unpacks."""
    values, kind = operation.values, operation.kind
    to, source = operation.operands
    if to.startswith("{"):
        parts = operation.elements(0)
        bits = 8 * SIZE[kind] // len(parts)
        puts = (
            values.put(part, f"(uint{bits}_t)(x_ >> {bits * i})")
            for i, part in enumerate(parts)
            if part != "_"
        )
        return f"auto x_ = {values.typed(source, kind)}; {' '.join(puts)}"
    if source.startswith("{"):
        parts = operation.elements(1)
        bits = 8 * SIZE[kind] // len(parts)
        terms = (
            f"({CPP[kind]})as<uint{bits}_t>({values.raw(part)}) << {bits * i}"
            for i, part in enumerate(parts)
        )
        return values.put(to, f"({CPP[kind]})({' | '.join(terms)})")
    return values.put(to, values.typed(source, kind))


def _convert(operation: Operation) -> str:
    """cvt, from the second type to the first."""
    values = operation.values
    to, source = operation.kinds[:2]
    mode = operation.one_of(*_ROUNDING, *_INTEGRAL)
    rounding = f"Rounding::{_ROUNDING.get(mode) or _INTEGRAL.get(mode) or 'kNearest'}"
    if to == "tf32":
        away = "true" if mode == "rna" else "false"
        return values.put(operation.operands[0], f"to_tf32({operation.b32(1)}, {away})")
    if to in PAIRS:
        high, low = (values.typed(text, "f32") for text in operation.operands[1:])
        return values.put(operation.operands[0], f"pack<{CPP[to[:-2]]}>({high}, {low}, {rounding})")
    value = values.typed(operation.operands[1], source)
    if to in REALS and source in REALS and mode in _INTEGRAL:
        value = f"convert<{CPP[to]}>(round_to_integral({value}, {rounding}))"
        return values.put(operation.operands[0], value)
    function = "convert_saturated" if operation.has("sat") else "convert"
    return values.put(operation.operands[0], f"{function}<{CPP[to]}>({value}, {rounding})")


def _address_space(operation: Operation) -> str:
    """cvta: only shared memory has addresses of its own here."""
    value = operation.values.raw(operation.operands[1])
    if not any(m.startswith("shared") for m in operation.modifiers):
        return operation.values.put(operation.operands[0], f"(uint64_t){value}")
    function = "to_shared" if operation.has("to") else "from_shared"
    return operation.values.put(operation.operands[0], f"{function}({value})")


def _is_space(operation: Operation) -> str:
    """isspacep."""
    test = f"is_shared({operation.values.raw(operation.operands[1])})"
    negated = "" if operation.modifiers[0].startswith("shared") else "!"
    return operation.values.put(operation.operands[0], negated + test)


_LOGIC = {"and": "&&", "or": "||", "xor": "!="}


def _set_predicate(operation: Operation) -> str:
    """setp: `p|q` are a comparison and its opposite, each joined with a third predicate."""
    values, kind = operation.values, operation.kind
    how = f"Compare::{operation.modifiers[0]}"
    x, y = (values.typed(text, kind) for text in operation.operands[1:3])
    first, second = operation.destinations()
    logic = operation.one_of(*_LOGIC)
    if kind in PAIRS:
        if logic:
            raise UnsupportedError(operation.instruction.text)
        low = values.put(first, f"compare({how}, x_.low, y_.low)")
        return f"auto x_ = {x}, y_ = {y}; {low} " + values.put(
            second, f"compare({how}, x_.high, y_.high)"
        )
    direct, opposite = "x_", "!x_"
    if logic:
        third = values.raw(operation.operands[3])
        direct, opposite = (f"({e} {_LOGIC[logic]} {third})" for e in (direct, opposite))
    results = f"bool d_ = {direct}, o_ = {opposite}; "
    return f"bool x_ = compare<{CPP[kind]}>({how}, {x}, {y}); {results}" + (
        values.put(first, "d_") + values.put(second, "o_")
    )


def _set(operation: Operation) -> str:
    """set: all ones, or 1.0, where a comparison holds."""
    to, kind = operation.kinds
    if operation.one_of(*_LOGIC) or kind in PAIRS:
        raise UnsupportedError(operation.instruction.text)
    x, y = (operation.values.typed(text, kind) for text in operation.operands[1:3])
    one = "1.0f" if to == "f32" else f"({CPP[to]})-1"
    test = f"compare<{CPP[kind]}>(Compare::{operation.modifiers[0]}, {x}, {y})"
    return operation.values.put(operation.operands[0], f"{test} ? {one} : ({CPP[to]})0")


_COMPARISONS = "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan"
_CONVERSIONS = "rn rna rz rm rp rni rzi rmi rpi ftz sat tf32"

ROWS: list[Row] = [
    row("mov", None, "", _move),
    row("cvt", None, "", _convert, allows=_CONVERSIONS),
    row("cvta", None, "", _address_space, allows="to shared.* global local const param"),
    row("isspacep", None, "", _is_space, needs="shared"),
    row("isspacep", None, "", _is_space, needs="shared_cta"),
    row("isspacep", None, "", _is_space, needs="global"),
    row("setp", None, "", _set_predicate, allows=f"{_COMPARISONS} and or xor ftz"),
    row("set", None, "", _set, allows=f"{_COMPARISONS} ftz"),
    row("selp", None, "ttr", "{2} ? {0} : {1}"),
]
