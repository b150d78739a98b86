"""PTX's types: what C++ calls them, and how large they are."""

from __future__ import annotations

CPP = {
    "pred": "bool",
    "b8": "uint8_t",
    "u8": "uint8_t",
    "s8": "int8_t",
    "b16": "uint16_t",
    "u16": "uint16_t",
    "s16": "int16_t",
    "b32": "uint32_t",
    "u32": "uint32_t",
    "s32": "int32_t",
    "b64": "uint64_t",
    "u64": "uint64_t",
    "s64": "int64_t",
    "b128": "u128",
    "f16": "f16",
    "bf16": "bf16",
    "f32": "float",
    "f64": "double",
    "f16x2": "f16x2",
    "bf16x2": "bf16x2",
}
SIZE = {"pred": 1, "b128": 16, "f16": 2, "bf16": 2, "f16x2": 4, "bf16x2": 4} | {
    f"{kind}{bits}": bits // 8 for kind in "busf" for bits in (8, 16, 32, 64)
}
REALS = ("f32", "f64", "f16", "bf16", "f16x2", "bf16x2")
PAIRS = ("f16x2", "bf16x2")
INTEGERS = tuple(f"{kind}{bits}" for kind in "bus" for bits in (8, 16, 32, 64))


def unsigned(kind: str) -> str:
    """The type of the same width that wraps around: C++ leaves signed overflow undefined."""
    return "u" + kind[1:] if kind in INTEGERS else kind


def wider(kind: str) -> str:
    """The type that a product of two of this type needs."""
    return f"{kind[0]}{2 * int(kind[1:])}"


def storage(kind: str) -> str:
    """The C++ type of a register: its raw bits, whatever it is read as."""
    return {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t", 16: "u128"}[SIZE[kind]]
