"""Rows of arithmetic and logic."""

from __future__ import annotations

from ..types import CPP, INTEGERS, REALS, unsigned, wider
from .row import Operation, Row, row

_SINGLE = ("f32", "f64")
# .approx and .full allow an error, which exact results do not have; .ftz may flush subnormals.
_REAL = "rn ftz sat approx full"
_DIRECTED = {"rz": "kZero", "rm": "kDown", "rp": "kUp"}
_FUSED = {
    "add": ("tt", "{0}, ({T})1, {1}"),
    "sub": ("tt", "{0}, ({T})1, -{1}"),
    "mul": ("tt", "{0}, {1}, -({T})0"),
    "fma": ("ttt", "{0}, {1}, {2}"),
}

REAL = [
    row("add", REALS, "tt", "real_add({0}, {1})", allows=_REAL),
    row("sub", REALS, "tt", "real_sub({0}, {1})", allows=_REAL),
    row("mul", REALS, "tt", "real_mul({0}, {1})", allows=_REAL),
    row("fma", REALS, "ttt", "real_fma({0}, {1}, {2})", allows=_REAL),
    row("mad", REALS, "ttt", "real_fma({0}, {1}, {2})", allows=_REAL),
    row("div", REALS, "tt", "real_div({0}, {1})", allows=_REAL),
    row("neg", REALS, "t", "real_neg({0})", allows="ftz"),
    row("abs", REALS, "t", "real_abs({0})", allows="ftz"),
    row("min", REALS, "tt", "real_min({0}, {1}, false)", allows="ftz"),
    row("max", REALS, "tt", "real_max({0}, {1}, false)", allows="ftz"),
    row("min", REALS, "tt", "real_min({0}, {1}, true)", needs="NaN", allows="ftz"),
    row("max", REALS, "tt", "real_max({0}, {1}, true)", needs="NaN", allows="ftz"),
    row("sqrt", REALS, "t", "real_sqrt({0})", allows=_REAL),
    row("rsqrt", REALS, "t", "real_rsqrt({0})", allows=_REAL),
    row("rcp", REALS, "t", "real_rcp({0})", allows=_REAL),
    row("ex2", REALS, "t", "real_ex2({0})", allows=_REAL),
    row("lg2", REALS, "t", "real_lg2({0})", allows=_REAL),
    row("sin", REALS, "t", "real_sin({0})", allows=_REAL),
    row("cos", REALS, "t", "real_cos({0})", allows=_REAL),
    row("tanh", REALS, "t", "real_tanh({0})", allows=_REAL),
    row("copysign", _SINGLE, "tt", "real_copysign({0}, {1})"),
    *(
        row(
            opcode,
            _SINGLE,
            operands,
            f"fused_rounded({arguments}, Rounding::{mode})",
            needs=modifier,
            allows="ftz sat",
        )
        for opcode, (operands, arguments) in _FUSED.items()
        for modifier, mode in _DIRECTED.items()
    ),
    *(
        row("testp", _SINGLE, "t", f"test_property(Test::{test}, {{0}})", needs=name)
        for name, test in {
            "finite": "kFinite",
            "infinite": "kInfinite",
            "number": "kNumber",
            "notanumber": "kNotANumber",
            "normal": "kNormal",
            "subnormal": "kSubnormal",
        }.items()
    ),
]


def _carry(function: str, carry_in: str, chains: bool) -> str:
    """The result of a digit; `.cc` keeps the carry for the next one."""
    carry = "carry" if chains else "no_carry"
    return f"{function}<{{U}}>({{0}}, {{1}}, {carry_in}, {carry})"


def _wide(operation: Operation) -> str:
    """mul.wide and mad.wide: the product, and what is added to it, in twice the width."""
    values, kind = operation.values, operation.kind
    to = CPP[wider(kind)]
    a, b = (f"({to}){values.typed(text, kind)}" for text in operation.operands[1:3])
    if operation.opcode == "mul":
        return values.put(operation.operands[0], f"{a} * {b}")
    unsigned_to = CPP[unsigned(wider(kind))]
    added = values.unsigned(operation.operands[3], wider(kind))
    return values.put(operation.operands[0], f"({unsigned_to})({a} * {b}) + {added}")


INTEGER = [
    row("add", INTEGERS, "uu", "({U})({0} + {1})"),
    row("sub", INTEGERS, "uu", "({U})({0} - {1})"),
    row("add", INTEGERS, "uu", _carry("add_carry", "false", True), needs="cc"),
    row("sub", INTEGERS, "uu", _carry("sub_carry", "false", True), needs="cc"),
    row("addc", INTEGERS, "uu", _carry("add_carry", "carry", False)),
    row("subc", INTEGERS, "uu", _carry("sub_carry", "carry", False)),
    row("addc", INTEGERS, "uu", _carry("add_carry", "carry", True), needs="cc"),
    row("subc", INTEGERS, "uu", _carry("sub_carry", "carry", True), needs="cc"),
    row("mul", INTEGERS, "uu", "({U})({0} * (uint64_t){1})", needs="lo"),
    row("mul", INTEGERS, "tt", "mul_high({0}, {1})", needs="hi"),
    row("mul", INTEGERS, "tt", _wide, needs="wide"),
    row("mad", INTEGERS, "uuu", "({U})({0} * (uint64_t){1} + {2})", needs="lo"),
    row("mad", INTEGERS, "ttu", "({U})(mul_high({0}, {1}) + {2})", needs="hi"),
    row("mad", INTEGERS, "ttt", _wide, needs="wide"),
    row("div", INTEGERS, "tt", "int_div<{T}>({0}, {1})"),
    row("rem", INTEGERS, "tt", "int_rem<{T}>({0}, {1})"),
    row("min", INTEGERS, "tt", "std::min<{T}>({0}, {1})"),
    row("max", INTEGERS, "tt", "std::max<{T}>({0}, {1})"),
    row("abs", INTEGERS, "t", "({0} < 0 ? ({U})(0 - ({U}){0}) : ({U}){0})"),
    row("neg", INTEGERS, "u", "({U})(0 - {0})"),
    row("sad", INTEGERS, "ttt", "({T})({2} + absolute_difference({0}, {1}))"),
]

_LOGIC = ("pred", *INTEGERS)
BITS = [
    row("and", _LOGIC, "tt", "({T})({0} & {1})"),
    row("or", _LOGIC, "tt", "({T})({0} | {1})"),
    row("xor", _LOGIC, "tt", "({T})({0} ^ {1})"),
    row("not", ("pred",), "t", "!{0}"),
    row("not", INTEGERS, "t", "({T})~{0}"),
    row("cnot", INTEGERS, "t", "({T})({0} == 0)"),
    row("shl", INTEGERS, "ub", "shift_left<{U}>({0}, {1})"),
    row("shr", INTEGERS, "tb", "shift_right<{T}>({0}, {1})"),
    row("shf", INTEGERS, "bbb", "funnel(true, true, {0}, {1}, {2})", needs="l wrap"),
    row("shf", INTEGERS, "bbb", "funnel(true, false, {0}, {1}, {2})", needs="l clamp"),
    row("shf", INTEGERS, "bbb", "funnel(false, true, {0}, {1}, {2})", needs="r wrap"),
    row("shf", INTEGERS, "bbb", "funnel(false, false, {0}, {1}, {2})", needs="r clamp"),
    row("bfe", INTEGERS, "tbb", "extract_bits<{T}>({0}, {1}, {2})"),
    row("bfi", INTEGERS, "uubb", "insert_bits<{U}>({0}, {1}, {2}, {3})"),
    row("bfind", INTEGERS, "t", "find_leading<{T}>({0}, false)"),
    row("bfind", INTEGERS, "t", "find_leading<{T}>({0}, true)", needs="shiftamt"),
    row("bmsk", INTEGERS, "bb", "bit_mask({0}, {1}, true)", needs="clamp"),
    row("bmsk", INTEGERS, "bb", "bit_mask({0}, {1}, false)", needs="wrap"),
    row("popc", INTEGERS, "u", "(uint32_t)__builtin_popcountll({0})"),
    row("clz", INTEGERS, "u", "leading_zeros<{U}>({0})"),
    row("brev", INTEGERS, "u", "reverse_bits<{U}>({0})"),
    row("prmt", INTEGERS, "bbb", "permute_bytes({0}, {1}, {2})"),
    row("lop3", INTEGERS, "bbbn", "logic3({0}, {1}, {2}, {3})"),
    row("dp4a", None, "bbb", lambda operation: _dot(operation)),
]


def _dot(operation: Operation) -> str:
    """dp4a: the types of its two factors, byte by byte, may differ in sign."""
    signs = ["int8_t" if kind == "s32" else "uint8_t" for kind in operation.kinds]
    a, b, c = (operation.b32(i) for i in (1, 2, 3))
    return operation.values.put(operation.operands[0], f"dot4<{', '.join(signs)}>({a}, {b}, {c})")


ROWS: list[Row] = [*REAL, *INTEGER, *BITS]
