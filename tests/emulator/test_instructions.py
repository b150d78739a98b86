"""Rows of the instruction table, one by one: a kernel of a single instruction against NumPy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import emulator
from emulator.ptx import translate
from emulator.translated import Module

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))

THREADS = 256
DTYPES = {
    "s16": np.int16,
    "u16": np.uint16,
    "s32": np.int32,
    "u32": np.uint32,
    "s64": np.int64,
    "u64": np.uint64,
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
}


@dataclass(frozen=True)
class Case:
    """`code` computes %d from %a, %b and %c; the types are those of a, b, c (or fewer) and of d."""

    code: str
    types: str
    result: str
    expected: Callable[..., np.ndarray]

    @property
    def sources(self) -> list[str]:
        return self.types.split()


def wrapped(function: Callable[..., int], *arrays: np.ndarray) -> np.ndarray:
    """A function of Python's integers, element by element; the caller cuts it to its width."""
    return np.array([function(*map(int, values)) for values in zip(*arrays, strict=True)], object)


def of_ints(function: Callable[..., int]) -> Callable[..., np.ndarray]:
    return lambda *arrays: wrapped(function, *arrays)


def trunc_div(a: int, b: int) -> int:
    if b == 0:
        return -1
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def trunc_rem(a: int, b: int) -> int:
    return a if b == 0 else a - trunc_div(a, b) * b


def bits_of(a: int, position: int, length: int) -> int:
    return (a >> position) & ((1 << length) - 1)


def reversed_bits(a: int) -> int:
    return int(f"{a:032b}"[::-1], 2)


def table(a: int, b: int, c: int) -> int:
    return (a & b) | (~a & c)


def as_float32(function: Callable) -> Callable[..., np.ndarray]:
    """Computed in float64 and rounded once."""
    return lambda *arrays: function(*(x.astype(np.float64) for x in arrays)).astype(np.float32)


def directed(a: np.ndarray, b: np.ndarray, towards: float) -> np.ndarray:
    exact = a.astype(np.longdouble) + b.astype(np.longdouble)
    near = exact.astype(np.float32)
    wrong = near > exact if towards < 0 else near < exact
    return np.where(wrong, np.nextafter(near, np.float32(towards)), near)


def round_half(dtype: torch.dtype) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: torch.from_numpy(a).to(dtype).view(torch.int16).numpy().view(np.uint16)


def saturated(low: int, high: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: np.clip(np.nan_to_num(np.trunc(a.astype(np.float64))), low, high)


def squares_of_bytes(a: np.ndarray) -> np.ndarray:
    return (a.view(np.uint8).astype(np.int64).reshape(-1, 4) ** 2).sum(1)


def half_fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(np.float16)


def unit(a: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(a), 0, np.clip(a, 0, 1))


def nearest(a: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.clip(np.nan_to_num(np.rint(a.astype(np.float64)), nan=0), low, high)


def ordered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ~(np.isnan(a) | np.isnan(b))


def bf16_bits(a: np.ndarray) -> np.ndarray:
    bits = torch.from_numpy(a).bfloat16().view(torch.int16).numpy().view(np.uint16)
    return np.where(np.isnan(a), 0x7FFF, bits)  # the one NaN that cvt writes


def tf32(a: np.ndarray) -> np.ndarray:
    rounded = ((a.view(np.uint32).astype(np.uint64) + 0x1000) & 0xFFFFE000).astype(np.uint32)
    return np.where(np.isfinite(a), rounded.view(np.float32), a)


CASES = [
    Case("add.s32 %d, %a, %b;", "s32 s32", "s32", of_ints(lambda a, b: a + b)),
    Case("add.s64 %d, %a, %b;", "s64 s64", "s64", of_ints(lambda a, b: a + b)),
    Case("sub.u32 %d, %a, %b;", "u32 u32", "u32", of_ints(lambda a, b: a - b)),
    Case("add.u16 %d, %a, %b;", "u16 u16", "u16", of_ints(lambda a, b: a + b)),
    Case("mul.lo.s32 %d, %a, %b;", "s32 s32", "s32", of_ints(lambda a, b: a * b)),
    Case("mul.hi.s32 %d, %a, %b;", "s32 s32", "s32", of_ints(lambda a, b: a * b >> 32)),
    Case("mul.hi.u64 %d, %a, %b;", "u64 u64", "u64", of_ints(lambda a, b: a * b >> 64)),
    Case("mul.wide.s32 %d, %a, %b;", "s32 s32", "s64", of_ints(lambda a, b: a * b)),
    Case("mul.wide.u32 %d, %a, %b;", "u32 u32", "u64", of_ints(lambda a, b: a * b)),
    Case("mad.lo.s32 %d, %a, %b, %c;", "s32 s32 s32", "s32", of_ints(lambda a, b, c: a * b + c)),
    Case("mad.wide.s32 %d, %a, %b, %c;", "s32 s32 s64", "s64", of_ints(lambda a, b, c: a * b + c)),
    Case("div.s32 %d, %a, %b;", "s32 s32", "s32", of_ints(trunc_div)),
    Case("rem.s32 %d, %a, %b;", "s32 s32", "s32", of_ints(trunc_rem)),
    Case("div.u64 %d, %a, %b;", "u64 u64", "u64", of_ints(trunc_div)),
    Case("min.s32 %d, %a, %b;", "s32 s32", "s32", np.minimum),
    Case("max.u32 %d, %a, %b;", "u32 u32", "u32", np.maximum),
    Case("abs.s32 %d, %a;", "s32", "s32", of_ints(abs)),
    Case("neg.s32 %d, %a;", "s32", "s32", of_ints(lambda a: -a)),
    Case("and.b32 %d, %a, %b;", "u32 u32", "u32", np.bitwise_and),
    Case("or.b32 %d, %a, %b;", "u32 u32", "u32", np.bitwise_or),
    Case("xor.b64 %d, %a, %b;", "u64 u64", "u64", np.bitwise_xor),
    Case("not.b32 %d, %a;", "u32", "u32", np.invert),
    Case("shl.b32 %d, %a, 5;", "u32", "u32", of_ints(lambda a: a << 5)),
    Case("shl.b32 %d, %a, 32;", "u32", "u32", of_ints(lambda a: 0)),
    Case("shr.s32 %d, %a, 40;", "s32", "s32", of_ints(lambda a: -1 if a < 0 else 0)),
    Case("shr.u32 %d, %a, 7;", "u32", "u32", of_ints(lambda a: a >> 7)),
    Case("popc.b32 %d, %a;", "u32", "u32", of_ints(lambda a: a.bit_count())),
    Case("clz.b32 %d, %a;", "u32", "u32", of_ints(lambda a: 32 - a.bit_length())),
    Case("clz.b64 %d, %a;", "u64", "u32", of_ints(lambda a: 64 - a.bit_length())),
    Case("bfind.u32 %d, %a;", "u32", "u32", of_ints(lambda a: a.bit_length() - 1)),
    Case("brev.b32 %d, %a;", "u32", "u32", of_ints(reversed_bits)),
    Case("bfe.u32 %d, %a, 3, 9;", "u32", "u32", of_ints(lambda a: bits_of(a, 3, 9))),
    Case(
        "bfe.s32 %d, %a, 3, 9;",
        "u32",
        "s32",
        of_ints(lambda a: bits_of(a, 3, 9) - (bits_of(a, 11, 1) << 9)),
    ),
    Case(
        "bfi.b32 %d, %a, %b, 4, 8;",
        "u32 u32",
        "u32",
        of_ints(lambda a, b: (b & ~0xFF0) | (bits_of(a, 0, 8) << 4)),
    ),
    Case(
        "prmt.b32 %d, %a, %b, 0x7610;",
        "u32 u32",
        "u32",
        of_ints(lambda a, b: (a & 0xFFFF) | (b & 0xFFFF0000)),
    ),
    Case("lop3.b32 %d, %a, %b, %c, 0xCA;", "u32 u32 u32", "u32", of_ints(table)),
    Case(
        "shf.l.wrap.b32 %d, %a, %b, 9;",
        "u32 u32",
        "u32",
        of_ints(lambda a, b: ((b << 32 | a) << 9) >> 32),
    ),
    Case("shf.r.clamp.b32 %d, %a, %b, 32;", "u32 u32", "u32", of_ints(lambda a, b: b)),
    Case("sad.u32 %d, %a, %b, %c;", "u32 u32 u32", "u32", of_ints(lambda a, b, c: abs(a - b) + c)),
    Case(
        "add.cc.u32 %d, %a, %b; addc.u32 %d, %c, 0;",
        "u32 u32 u32",
        "u32",
        of_ints(lambda a, b, c: c + (a + b >> 32)),
    ),
    Case(
        "sub.cc.u32 %d, %a, %b; subc.u32 %d, %c, 0;",
        "u32 u32 u32",
        "u32",
        of_ints(lambda a, b, c: c - (a < b)),
    ),
    Case("dp4a.u32.u32 %d, %a, %a, 1;", "u32", "u32", lambda a: 1 + squares_of_bytes(a)),
    Case("add.f32 %d, %a, %b;", "f32 f32", "f32", np.add),
    Case("sub.f32 %d, %a, %b;", "f32 f32", "f32", np.subtract),
    Case("mul.f32 %d, %a, %b;", "f32 f32", "f32", np.multiply),
    Case("div.rn.f32 %d, %a, %b;", "f32 f32", "f32", np.divide),
    Case("fma.rn.f32 %d, %a, %a, %b;", "f32 f32", "f32", as_float32(lambda a, b: a * a + b)),
    Case("add.rm.f32 %d, %a, %b;", "f32 f32", "f32", lambda a, b: directed(a, b, -np.inf)),
    Case("add.rp.f32 %d, %a, %b;", "f32 f32", "f32", lambda a, b: directed(a, b, np.inf)),
    Case("add.f64 %d, %a, %b;", "f64 f64", "f64", np.add),
    Case("fma.rn.f16 %d, %a, %b, %a;", "f16 f16", "f16", lambda a, b: half_fma(a, b, a)),
    Case("add.f16 %d, %a, %b;", "f16 f16", "f16", np.add),
    Case("min.f32 %d, %a, %b;", "f32 f32", "f32", np.fmin),
    Case("max.f32 %d, %a, %b;", "f32 f32", "f32", np.fmax),
    Case("max.NaN.f32 %d, %a, %b;", "f32 f32", "f32", np.maximum),
    Case("neg.f32 %d, %a;", "f32", "f32", np.negative),
    Case("abs.f32 %d, %a;", "f32", "f32", np.abs),
    Case("add.sat.f32 %d, %a, %b;", "f32 f32", "f32", lambda a, b: unit(a + b)),
    Case("sqrt.rn.f32 %d, %a;", "f32", "f32", np.sqrt),
    Case("rcp.approx.f32 %d, %a;", "f32", "f32", as_float32(lambda a: 1 / a)),
    Case("rsqrt.approx.f32 %d, %a;", "f32", "f32", as_float32(lambda a: 1 / np.sqrt(a))),
    Case("ex2.approx.f32 %d, %a;", "f32", "f32", as_float32(np.exp2)),
    Case("lg2.approx.f32 %d, %a;", "f32", "f32", as_float32(np.log2)),
    Case("tanh.approx.f32 %d, %a;", "f32", "f32", as_float32(np.tanh)),
    Case("copysign.f32 %d, %a, %b;", "f32 f32", "f32", lambda a, b: np.copysign(b, a)),
    Case("cvt.rni.s32.f32 %d, %a;", "f32", "s32", lambda a: nearest(a, -(2**31), 2**31 - 1)),
    Case("cvt.rzi.u32.f32 %d, %a;", "f32", "u32", saturated(0, 2**32 - 1)),
    Case("cvt.rn.f32.s32 %d, %a;", "s32", "f32", lambda a: a.astype(np.float32)),
    Case("cvt.rn.f16.f32 %d, %a;", "f32", "u16", round_half(torch.float16)),
    Case("cvt.rn.bf16.f32 %d, %a;", "f32", "u16", bf16_bits),
    Case("cvt.f32.f16 %d, %a;", "f16", "f32", lambda a: a.astype(np.float32)),
    Case("cvt.f64.f32 %d, %a;", "f32", "f64", lambda a: a.astype(np.float64)),
    Case("cvt.s64.s32 %d, %a;", "s32", "s64", lambda a: a),
    Case("cvt.sat.u16.s32 %d, %a;", "s32", "u16", lambda a: np.clip(a, 0, 65535)),
    Case("cvt.rmi.f32.f32 %d, %a;", "f32", "f32", np.floor),
    Case("cvt.rna.tf32.f32 %d, %a;", "f32", "f32", tf32),
    Case("setp.lt.f32 %p, %a, %b; selp.u32 %d, 1, 0, %p;", "f32 f32", "u32", np.less),
    Case(
        "setp.geu.f32 %p, %a, %b; selp.u32 %d, 1, 0, %p;",
        "f32 f32",
        "u32",
        lambda a, b: ~np.less(a, b),
    ),
    Case(
        "setp.ne.f32 %p, %a, %b; selp.u32 %d, 1, 0, %p;",
        "f32 f32",
        "u32",
        lambda a, b: ordered(a, b) & (a != b),
    ),
    Case(
        "setp.gt.and.s32 %p|%q, %a, %b, 1; selp.u32 %d, 1, 0, %q;",
        "s32 s32",
        "u32",
        lambda a, b: a <= b,
    ),
    Case(
        "setp.gt.s32 %p, %a, %b; @!%p mov.u32 %d, 7; @%p mov.u32 %d, 9;",
        "s32 s32",
        "u32",
        lambda a, b: np.where(a > b, 9, 7),
    ),
    Case("mov.b64 %d, {%a, %b};", "u32 u32", "u64", of_ints(lambda a, b: a | b << 32)),
    Case("shfl.sync.bfly.b32 %d, %a, 5, 31, -1;", "u32", "u32", lambda a: a[np.arange(len(a)) ^ 5]),
    Case(
        "redux.sync.add.s32 %d, %a, -1;",
        "s32",
        "s32",
        lambda a: np.repeat(a.astype(object).reshape(-1, 32).sum(1), 32),
    ),
]


def values_of(kind: str, seed: int) -> np.ndarray:
    """Values of a type with the awkward ones among them, differently placed for each operand."""
    generator = np.random.default_rng(seed)
    dtype = np.dtype(DTYPES[kind])
    if dtype.kind == "f":
        special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 65504.0, 1e-7, 0.5, 1.5, 2.5]
        data = generator.normal(0, 10, THREADS)
    else:
        limits = np.iinfo(dtype)
        special = [0, 1, limits.max, limits.min, limits.max - 1, 31, 32, 33]
        data = generator.integers(limits.min, limits.max, THREADS, dtype=dtype, endpoint=True)
    data = data.astype(dtype)
    places = generator.permutation(THREADS)[: 4 * len(special)]
    data[places] = np.tile(np.array(special, dtype), 4)
    return data


def register(kind: str) -> str:
    return f"b{8 * np.dtype(DTYPES[kind]).itemsize}"


def kernel_of(number: int, case: Case) -> str:
    """A kernel in which each thread runs the code once."""
    lines = [
        ".reg .b64 %rd<6>; .reg .b32 %t; .reg .pred %p, %q;",
        f".reg .{register(case.result)} %d;",
        "mov.u32 %t, %tid.x;",
    ]
    for i, (name, kind) in enumerate(zip("abc", case.sources, strict=False)):
        size = np.dtype(DTYPES[kind]).itemsize
        lines += [
            f".reg .{register(kind)} %{name};",
            f"ld.param.u64 %rd{i}, [p{i}]; mad.wide.u32 %rd{i}, %t, {size}, %rd{i};",
            f"ld.global.{register(kind)} %{name}, [%rd{i}];",
        ]
    size = np.dtype(DTYPES[case.result]).itemsize
    lines += [
        case.code,
        f"ld.param.u64 %rd4, [p3]; mad.wide.u32 %rd4, %t, {size}, %rd4;",
        f"st.global.{register(case.result)} [%rd4], %d;",
        "ret;",
    ]
    parameters = ", ".join(f".param .u64 p{i}" for i in range(4))
    return f".visible .entry k{number}({parameters})\n{{\n" + "\n".join(lines) + "\n}\n"


HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"


@pytest.fixture(scope="module")
def module():
    return Module(HEADER + "".join(kernel_of(i, case) for i, case in enumerate(CASES)))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.code for case in CASES])
def test_instruction(module, number):
    case = CASES[number]
    sources = [values_of(kind, i) for i, kind in enumerate(case.sources)]
    result = np.zeros(THREADS, DTYPES[case.result])
    arrays = [*sources, *[np.zeros(1)] * (3 - len(sources)), result]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    module.start(f"k{number}", (1,), THREADS, pointers)
    with np.errstate(all="ignore"):
        expected = np.asarray(case.expected(*sources))
        if expected.dtype == object:
            bits = 8 * result.itemsize
            expected = np.array([int(v) % 2**bits for v in expected], f"u{result.itemsize}")
            expected = expected.view(result.dtype)
        expected = expected.astype(result.dtype)
    np.testing.assert_array_equal(result, expected)


UNKNOWN = [
    "wgmma.fence.sync.aligned;",
    "fma.rn.relu.f16 %d, %a, %a, %a;",
    "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%d}, {%a}, {%a}, {%a};",
    "cvt.rn.satfinite.e4m3x2.f32 %d, %a, %a;",
]


@pytest.mark.parametrize("code", UNKNOWN)
def test_what_the_table_does_not_have_is_refused_where_it_is_reached(code):
    case = Case(code, "u32", "u32", of_ints(lambda a: a))
    text = HEADER + kernel_of(0, case)
    assert translate(text).unsupported == [code.removesuffix(";")]
    source, result = values_of("u32", 0), np.zeros(THREADS, np.uint32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (source, source, source, result)]
    with pytest.raises(emulator.EmulationError, match="unsupported PTX instruction: " + code[:12]):
        Module(text).start("k0", (1,), THREADS, pointers)
