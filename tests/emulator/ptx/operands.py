"""Third pass: operands become C++ expressions."""

from __future__ import annotations

import re
import struct

from .names import Names
from .types import CPP, unsigned

_VECTORS = {
    "%tid": "thread_id()",
    "%ntid": "engine.launch.block",
    "%ctaid": "engine.block",
    "%nctaid": "engine.launch.grid",
}
_SPECIAL = {
    "%laneid": "lane()",
    "%warpid": "(thread_index() / 32)",
    "%nwarpid": "32u",
    "%smid": "0u",
    "%nsmid": "1u",
    "%gridid": "0u",
    "%clock": "0u",
    "%clock_hi": "0u",
    "%clock64": "0ull",
    "%globaltimer": "0ull",
    "%globaltimer_lo": "0u",
    "%dynamic_smem_size": "dynamic_shared_bytes()",
    "%total_smem_size": "(uint32_t)engine.launch.shared_bytes",
    "%lanemask_eq": "lane_bit()",
    "%lanemask_lt": "lanes_below()",
    "%lanemask_le": "(lanes_below() | lane_bit())",
    "%lanemask_gt": "~(lanes_below() | lane_bit())",
    "%lanemask_ge": "~lanes_below()",
}
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|\d+)U?")
_DECIMAL = re.compile(r"-?\d+\.\d*(?:[eE][-+]?\d+)?")
_SUM = re.compile(r"([$%\w.]+)\s*\+\s*(-?\w+)")
_SPACES = {"shared": "shared", "global": "global", "local": "local"}


class Operands:
    """C++ for the operands of one function's instructions."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def raw(self, text: str, kind: str = "b32") -> str:
        """The bits of an operand; `kind` decides how long a decimal fraction is."""
        if text.startswith("!"):
            return "!" + self.raw(text[1:])
        register = self.names.register(text)
        if register is not None:
            return register
        return self._special(text) or self._number(text, kind) or self._symbol(text)

    def typed(self, text: str, kind: str) -> str:
        """An operand as a value of a PTX type."""
        return f"as<{CPP[kind]}>({self.raw(text, kind)})"

    def unsigned(self, text: str, kind: str) -> str:
        """An operand as a value of the unsigned type of the same width."""
        return self.typed(text, unsigned(kind))

    def put(self, to: str, value: str) -> str:
        """The statement that writes a value to a register; `_` takes none."""
        if to == "_":
            return f"(void)({value});"
        return f"put({self.raw(to)}, {value});"

    def address(self, text: str) -> str:
        """The address in `[register+offset]`."""
        inner = text.strip()[1:-1].strip()
        match = _SUM.fullmatch(inner)
        base, offset = (match[1], match[2]) if match else (inner, "0")
        if _INTEGER.fullmatch(base):
            return f"((uint64_t){base} + (int64_t)({offset}))"
        return f"((uint64_t){self.raw(base)} + (int64_t)({offset}))"

    def memory(self, text: str, space: str, size: int, access: str, written: str = "") -> str:
        """A `char*` to checked memory. Parameters are the translator's own and need no check."""
        address = self.address(text)
        if space == "param":
            return f"reinterpret_cast<char*>({address})"
        extra = f", {written}" if written else ""
        function = _SPACES.get(space, "generic")
        return f"{function}({address}, {size}, Access::k{access}{extra})"

    def _special(self, text: str) -> str | None:
        name, _, component = text.partition(".")
        if name in _VECTORS and component in ("x", "y", "z"):
            return f"(uint32_t){_VECTORS[name]}.{component}"
        return _SPECIAL.get(text)

    @staticmethod
    def _number(text: str, kind: str) -> str | None:
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
            return f"0x{text[2:]}u"
        if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
            return f"0x{text[2:]}ull"
        if _INTEGER.fullmatch(text):
            value = int(text.rstrip("U"), 0)
            if -(2**63) < value < 2**63:
                return f"((int64_t){value}ll)"
            return f"{value % 2**64}ull"
        if _DECIMAL.fullmatch(text):
            double = kind == "f64"
            bits = struct.pack(">d" if double else ">f", float(text)).hex()
            return f"0x{bits}ull" if double else f"0x{bits}u"
        return None

    def _symbol(self, text: str) -> str:
        match = _SUM.fullmatch(text)
        if match:
            return f"({self.names.address(match[1])} + {match[2]})"
        return self.names.address(text)
