# ruff: noqa - the draft, to be rewritten
"""Translate the PTX that nvcc (or Triton) wrote into C++ that runs on cuda_emu's fibers:  ptx2cpp.py in.ptx out.cpp"""

import re, sys

CT = dict(
    u8="uint8_t",
    s8="int8_t",
    b8="uint8_t",
    u16="uint16_t",
    s16="int16_t",
    b16="uint16_t",
    u32="uint32_t",
    s32="int32_t",
    b32="uint32_t",
    u64="uint64_t",
    s64="int64_t",
    b64="uint64_t",
    f16="f16",
    bf16="bf16",
    f32="float",
    f64="double",
    f16x2="f16x2",
    bf16x2="bf16x2",
    pred="bool",
    b128="u128",
)
UN = dict(s8="u8", s16="u16", s32="u32", s64="u64")
WIDE = dict(u16="u32", s16="s32", u32="u64", s32="s64")
SIZE = {
    "u8": 1,
    "s8": 1,
    "b8": 1,
    "u16": 2,
    "s16": 2,
    "b16": 2,
    "f16": 2,
    "bf16": 2,
    "u32": 4,
    "s32": 4,
    "b32": 4,
    "f32": 4,
    "f16x2": 4,
    "bf16x2": 4,
    "u64": 8,
    "s64": 8,
    "b64": 8,
    "f64": 8,
    "pred": 1,
}
SPECIAL = {"%tid": "threadIdx", "%ntid": "blockDim", "%ctaid": "blockIdx", "%nctaid": "gridDim"}


def mangle(s):
    return re.sub(r"[^A-Za-z0-9_]", "_", s.replace("%", "v_").replace("$", "L_"))


def statements(body):
    """(kind, text): 'stmt', 'label', '{', '}'."""
    i, n, buf, q, depth = 0, len(body), "", False, 0
    while i < n:
        c = body[i]
        if c == '"':
            q = not q
        if not q:
            if c in "{}" and not buf.strip() and depth == 0:
                yield c, ""
                buf = ""
                i += 1
                continue
            if c == "{":
                depth += 1
            if c == "}":
                depth -= 1
            if c == ";" and depth == 0:
                yield "stmt", " ".join(buf.split())
                buf = ""
                i += 1
                continue
            if (
                c == ":"
                and depth == 0
                and re.fullmatch(r"\s*[$%A-Za-z_][\w$]*", buf)
                and body[i + 1 : i + 2] != ":"
            ):
                yield "label", buf.strip()
                buf = ""
                i += 1
                continue
        buf += c
        i += 1


def split_ops(s):
    out, d, cur = [], 0, ""
    for c in s:
        if c in "{[(":
            d += 1
        if c in "}])":
            d -= 1
        if c == "," and d == 0:
            out.append(cur.strip())
            cur = ""
        else:
            cur += c
    if cur.strip():
        out.append(cur.strip())
    return out


class Fn:
    def __init__(self, mod, name, entry, params, rets):
        self.m, self.name, self.entry, self.params, self.rets = mod, name, entry, params, rets
        self.decl, self.code, self.scopes, self.n, self.sym = [], [], [{}], 0, {}
        self.tables = {}

    def reg(self, r):
        for s in reversed(self.scopes):
            if r in s:
                return s[r]
        raise KeyError(r)

    def val(self, o):
        o = o.strip()
        if o == "_":
            return "SINK"
        neg = o.startswith("!")
        if neg:
            return "!" + self.val(o[1:])
        m = re.fullmatch(r"(%tid|%ntid|%ctaid|%nctaid)\.([xyz])", o)
        if m:
            return f"(uint32_t){SPECIAL[m[1]]}.{m[2]}"
        if o in ("%laneid",):
            return "rt_lane()"
        if o in ("%warpid",):
            return "(rt_lin() / 32)"
        if o == "%nwarpid":
            return "32u"
        if o in ("%smid", "%nsmid", "%gridid", "%clock", "%clock_hi", "%globaltimer_lo"):
            return "0u"
        if o in ("%clock64", "%globaltimer"):
            return "0ull"
        if o == "%dynamic_smem_size":
            return "(uint32_t)rt_dyn_bytes()"
        if o == "%total_smem_size":
            return "(uint32_t)emu::E.dyn_bytes"
        m = re.fullmatch(r"%lanemask_(eq|le|lt|ge|gt)", o)
        if m:
            return f"rt_lanemask_{m[1]}()"
        if o in ("%cluster_ctarank", "%cluster_ctaid.x", "%cluster_ctaid.y", "%cluster_ctaid.z"):
            return "0u"
        if o in (
            "%cluster_nctarank",
            "%cluster_nctaid.x",
            "%cluster_nctaid.y",
            "%cluster_nctaid.z",
        ):
            return "1u"
        m = re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", o)
        if m:
            return f"0x{m[1]}u"
        if re.fullmatch(r"-?\d+\.\d*([eE][-+]?\d+)?", o):
            import struct

            return (
                "0x%sull" % struct.pack(">d", float(o)).hex()
                if self.t == "f64"
                else "0x%su" % struct.pack(">f", float(o)).hex()
            )
        m = re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", o)
        if m:
            return f"0x{m[1]}ull"
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", o):
            v = int(o.rstrip("U"), 0)
            return f"((int64_t){v}ll)" if -(2**63) < v < 2**63 else f"{v & (2**64 - 1)}ull"
        try:
            return self.reg(o)
        except KeyError:
            pass
        return self.addr_sym(o)

    def addr_sym(self, s):
        m = re.fullmatch(r"([$%\w]+)\s*\+\s*(-?\w+)", s)
        if m:
            return f"({self.addr_sym(m[1])} + {m[2]})"
        if s in self.sym:
            return f"(uint64_t)(uintptr_t){self.sym[s]}"
        if s in self.m.shared:
            return f"(uint64_t){self.m.shared[s]}"
        if s == self.m.dyn:
            return "rt_dyn_off()"
        if s in self.m.globals:
            return f"(uint64_t)(uintptr_t){mangle(s)}"
        if s in self.m.fns:
            return f"(uint64_t)(uintptr_t)&{mangle(s)}"
        names = [p[0] for p in self.params]
        if s in names:  # nvcc hoists the address of a parameter that it uses often
            return f"(uint64_t)(uintptr_t)P[{names.index(s)}]"
        raise SystemExit(f"{self.name}: unknown symbol {s}")

    def mem(self, o, space, size, rw="r"):
        """C++ expression for the byte address of [..]"""
        inner = o[1:-1].strip()
        m = re.fullmatch(r"([$%\w.]+)\s*(?:\+\s*(-?\w+))?", inner)
        base, off = m[1], m[2] or "0"
        if space == "param" and base.startswith("%"):
            return f"((char*)(uintptr_t){self.val(base)} + ({off}))"
        if space == "param":
            b = self.sym.get(base) or f"P[{[p[0] for p in self.params].index(base)}]"
            return f"({b} + ({off}))"
        e = f"({self.val(base)} + (int64_t)({off}))"
        if space.startswith("shared"):
            return f"rt_shared({e}, {size}, '{rw}')" if rw != "off" else e
        if space.startswith("global"):
            return f"rt_global({e}, {size}, '{rw}')"
        return f"rt_ptr({e}, {size}, '{rw}')"

    def fresh(self):
        self.n += 1
        return f"t{self.n}"

    def ins(self, text):
        guard = ""
        m = re.match(r"@(!?)(%?[\w$]+)\s+(.*)", text, re.S)
        if m:
            guard = f"if ({m[1]}{self.reg(m[2])}) "
            text = m[3]
        m = re.match(r"([a-z][\w.:]*)\s*(.*)", text, re.S)
        if not m:
            raise SystemExit(f"{self.name}: cannot read: {text}")
        op, rest = m[1], m[2]
        c = self.op(op, rest, split_ops(rest))
        if c is None:
            print(f"{self.name}: PTX instruction not supported: {text}", file=sys.stderr)
            c = 'emu::die("unsupported PTX instruction: %s");' % text.replace('"', "'")
        self.code.append(guard + "{ " + c + " }")

    def op(self, opc, rest, a):
        p = opc.replace("::", "_").split(".")
        o = p[0]
        mods = p[1:]
        t = next((x for x in reversed(mods) if x in CT), None)
        T = CT.get(t)
        v = self.val
        self.t = t
        as_ = lambda x, ty=None: f"as<{CT[ty or t]}>({v(x)})"

        def st(d, e):
            return f"set({v(d)}, {e});" if d != "_" else f"(void)({e});"

        isf = t in ("f32", "f64", "f16", "bf16", "f16x2", "bf16x2")
        U = UN.get(t, t)
        isint = t and not isf and t != "pred"
        u_ = lambda x: as_(x, U)
        if o == "bra":
            return f"goto {mangle(a[0])};"
        if o == "brx":
            return "switch (%s) {%s default: abort(); }" % (
                v(a[0]),
                "".join(f" case {i}: goto {mangle(l)};" for i, l in enumerate(self.tables[a[1]])),
            )
        if o in ("ret", "exit"):
            return "throw emu_exit{};" if o == "exit" and not self.entry else "return;"
        if o == "trap":
            return 'emu::die("trap");'
        if o in (
            "membar",
            "fence",
            "prefetch",
            "prefetchu",
            "griddepcontrol",
            "pragma",
            "discard",
            "applypriority",
            "brkpt",
            "setmaxnreg",
        ):
            return ";"
        if o == "nanosleep":
            return "rt_yield();"
        if o == "createpolicy":
            return st(a[0], "0ull")
        if o == "call":
            r = re.fullmatch(
                r"(?:\((.*?)\)\s*,\s*)?([\w$%]+)\s*(?:,\s*\((.*?)\))?(?:\s*,\s*\w+)?", rest
            )
            outs, fn, ins = split_ops(r[1] or ""), r[2], split_ops(r[3] or "")
            args = ", ".join(self.sym[x] for x in ins)
            ra = ", ".join(self.sym[x] for x in outs)
            if fn == "vprintf":
                return f"rt_vprintf({args}, {ra});" if ra else f"rt_vprintf({args});"
            if fn == "__assertfail":
                return f"rt_assertfail({args});"
            if fn in ("malloc", "free") or fn.startswith("%"):
                raise SystemExit(f"call of {fn} not supported")
            return f"char* A_[] = {{{args or 'nullptr'}}}; char* R_[] = {{{ra or 'nullptr'}}}; {mangle(fn)}(A_, R_);"
        if o in ("ld", "ldu"):
            space = next(
                (
                    m
                    for m in mods
                    if m.split("_")[0] in ("global", "shared", "local", "param", "const")
                ),
                "generic",
            )
            vec = next((int(m[1:]) for m in mods if re.fullmatch(r"v\d", m)), 1)
            ad = self.mem(a[1], space, SIZE[t] * vec)
            ds = split_ops(a[0][1:-1]) if a[0][0] == "{" else [a[0]]
            return f"{T} x_[{vec}]; memcpy(x_, {ad}, sizeof x_); " + " ".join(
                st(d, f"x_[{i}]") for i, d in enumerate(ds)
            )
        if o == "st":
            space = next(
                (
                    m
                    for m in mods
                    if m.split("_")[0] in ("global", "shared", "local", "param", "const")
                ),
                "generic",
            )
            vec = next((int(m[1:]) for m in mods if re.fullmatch(r"v\d", m)), 1)
            ad = self.mem(a[0], space, SIZE[t] * vec, "w")
            ss = split_ops(a[1][1:-1]) if a[1][0] == "{" else [a[1]]
            return f"{T} x_[{vec}] = {{{', '.join(as_(s) for s in ss)}}}; emu_sv = (const char*)x_; memcpy({ad}, x_, sizeof x_); emu_sv = nullptr;"
        if o == "mov":
            if a[0].startswith("{"):
                ds = split_ops(a[0][1:-1])
                w = SIZE[t] * 8 // len(ds)
                return f"auto x_ = as<{T}>({v(a[1])}); " + " ".join(
                    st(d, f"(uint{w}_t)(x_ >> {w * i})") for i, d in enumerate(ds) if d != "_"
                )
            if a[1].startswith("{"):
                ss = split_ops(a[1][1:-1])
                w = SIZE[t] * 8 // len(ss)
                return st(
                    a[0],
                    "(%s)(%s)"
                    % (
                        T,
                        " | ".join(
                            f"(({T})as<uint{w}_t>({v(s)}) << {w * i})" for i, s in enumerate(ss)
                        ),
                    ),
                )
            return st(a[0], as_(a[1]))
        if o == "cvta":
            to = "to" in mods
            sh = any(m.startswith("shared") for m in mods)
            if not sh:
                return st(a[0], as_(a[1]))
            return st(a[0], f"rt_to_shared({v(a[1])})" if to else f"rt_from_shared({v(a[1])})")
        if o == "isspacep":
            sh = mods[0].startswith("shared")
            return st(a[0], f"rt_is_shared({v(a[1])})" if sh else f"!rt_is_shared({v(a[1])})")
        if o == "cvt":
            ts = [m for m in mods if m in CT or m == "tf32"]
            d, s = ts[0], ts[1]
            rnd = next(
                (
                    m
                    for m in mods
                    if m in ("rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi", "rna")
                ),
                "",
            )
            sat = "sat" in mods
            if d == "tf32":
                return st(a[0], f"rt_tf32({v(a[1])}, {int(rnd == 'rna')})")
            if d in ("f16x2", "bf16x2"):
                h = CT[d[:-2]]
                return (
                    st(
                        a[0],
                        f"(uint32_t)(bits(cvt_<{h}, float>(as<float>({v(a[2])}), RN)) | (uint32_t)bits(cvt_<{h}, float>(as<float>({v(a[1])}), RN)) << 16)",
                    )
                    if rnd == "rn" and "relu" not in mods
                    else None
                )
            R = {
                "": "RN",
                "rn": "RN",
                "rni": "RN",
                "rz": "RZ",
                "rzi": "RZ",
                "rm": "RM",
                "rmi": "RM",
                "rp": "RP",
                "rpi": "RP",
                "rna": "RN",
            }[rnd]
            integral = int(rnd.endswith("i"))
            f = f"cvt_<{CT[d]}, {CT[s]}>(as<{CT[s]}>({v(a[1])}), {R}, {integral})"
            if sat and d in ("f32", "f64", "f16"):
                f = f"sat_({f})"
            elif sat:
                f = f"satint_<{CT[d]}>(as<{CT[s]}>({v(a[1])}))"
            return st(a[0], f)
        if (
            o
            in (
                "add",
                "sub",
                "mul",
                "mad",
                "fma",
                "div",
                "rem",
                "min",
                "max",
                "neg",
                "abs",
                "sqrt",
                "rsqrt",
                "rcp",
                "ex2",
                "lg2",
                "sin",
                "cos",
                "tanh",
                "copysign",
            )
            and isf
        ):
            sat = "sat" in mods
            x = [as_(s) for s in a[1:]]
            e = {
                "add": "{0} + {1}",
                "sub": "{0} - {1}",
                "mul": "{0} * {1}",
                "fma": "fma_({0}, {1}, {2})",
                "mad": "fma_({0}, {1}, {2})",
                "div": "{0} / {1}",
                "neg": "-({0})",
            }.get(o)
            if o in ("min", "max"):
                e = f"{o}_({{0}}, {{1}}, {int('NaN' in mods)})"
            if e is None:
                e = f"{o}_({', '.join('{%d}' % i for i in range(len(x)))})"
            e = e.format(*x)
            return st(a[0], f"sat_({e})" if sat else e)
        if o in ("add", "sub") and isint:
            if "cc" in mods:
                return (
                    f"CC = {'carry_add' if o == 'add' else 'carry_sub'}<{CT[U]}>({u_(a[1])}, {u_(a[2])}, 0, X_{SIZE[t]}); "
                    + st(a[0], f"({CT[U]})X_{SIZE[t]}")
                )
            return st(a[0], f"({T})({CT[U]})({u_(a[1])} {'+' if o == 'add' else '-'} {u_(a[2])})")
        if o in ("addc", "subc"):
            return (
                f"CC = {'carry_add' if o == 'addc' else 'carry_sub'}<{CT[U]}>({u_(a[1])}, {u_(a[2])}, CC, X_{SIZE[t]}); "
                + st(a[0], f"({CT[U]})X_{SIZE[t]}")
            )
        if o in ("mul", "mad") and isint:
            add = (
                (lambda x, ty: f"({CT[ty]})({x} + as<{CT[ty]}>({v(a[3])}))")
                if o == "mad"
                else (lambda x, ty: x)
            )
            if "wide" in mods:
                w = WIDE[t]
                return st(
                    a[0],
                    add(
                        f"(({CT[w]}){as_(a[1])} * ({CT[w]}){as_(a[2])})",
                        w if o == "mul" else UN.get(w, w),
                    ),
                )
            if "hi" in mods:
                return st(a[0], add(f"mulhi_({as_(a[1])}, {as_(a[2])})", U))
            return st(a[0], f"({T})" + add(f"({CT[U]})({u_(a[1])} * (uint64_t){u_(a[2])})", U))
        if o == "mul24" or o == "mad24":
            return None
        if o in ("div", "rem") and isint:
            sy = "/" if o == "div" else "%"
            z = f"({T})-1" if o == "div" else as_(a[1])
            return (
                "if (!"
                + as_(a[2])
                + ") { "
                + st(a[0], z)
                + " } else { "
                + st(a[0], "(%s)(%s %s %s)" % (T, as_(a[1]), sy, as_(a[2])))
                + " }"
            )
        if o in ("min", "max") and isint:
            return st(a[0], f"std::{o}<{T}>({as_(a[1])}, {as_(a[2])})")
        if o == "abs":
            return st(a[0], f"({T})({as_(a[1])} < 0 ? ({CT[U]})0 - {u_(a[1])} : {u_(a[1])})")
        if o == "neg":
            return st(a[0], f"({T})(({CT[U]})0 - {u_(a[1])})")
        if o in ("and", "or", "xor"):
            return st(
                a[0],
                f"({T})({as_(a[1])} {dict(**{'and': '&', 'or': '|', 'xor': '^'})[o]} {as_(a[2])})",
            )
        if o == "not":
            return st(a[0], f"!{as_(a[1])}" if t == "pred" else f"({T})~{as_(a[1])}")
        if o == "cnot":
            return st(a[0], f"({T})({as_(a[1])} == 0)")
        if o == "shl":
            return st(a[0], f"shl_<{CT[U]}>({u_(a[1])}, as<uint32_t>({v(a[2])}))")
        if o == "shr":
            return st(a[0], f"shr_<{T}>({as_(a[1])}, as<uint32_t>({v(a[2])}))")
        if o == "shf":
            return st(
                a[0],
                f"shf_({int(mods[0] == 'l')}, {int('wrap' in mods)}, as<uint32_t>({v(a[1])}), as<uint32_t>({v(a[2])}), as<uint32_t>({v(a[3])}))",
            )
        if o == "bfe":
            return st(
                a[0], f"bfe_<{T}>({as_(a[1])}, as<uint32_t>({v(a[2])}), as<uint32_t>({v(a[3])}))"
            )
        if o == "bfi":
            return st(
                a[0],
                f"bfi_<{T}>({as_(a[1])}, {as_(a[2])}, as<uint32_t>({v(a[3])}), as<uint32_t>({v(a[4])}))",
            )
        if o == "bfind":
            return st(a[0], f"bfind_<{T}>({as_(a[1])}, {int('shiftamt' in mods)})")
        if o == "bmsk":
            return st(
                a[0],
                f"bmsk_(as<uint32_t>({v(a[1])}), as<uint32_t>({v(a[2])}), {int(mods[0] == 'clamp')})",
            )
        if o == "popc":
            return st(a[0], f"(uint32_t)__builtin_popcountll({u_(a[1])})")
        if o == "clz":
            return st(a[0], f"clz_<{T}>({as_(a[1])})")
        if o == "brev":
            return st(a[0], f"brev_<{T}>({as_(a[1])})")
        if o == "prmt":
            return (
                st(
                    a[0],
                    f"prmt_(as<uint32_t>({v(a[1])}), as<uint32_t>({v(a[2])}), as<uint32_t>({v(a[3])}))",
                )
                if len(mods) == 1
                else None
            )
        if o == "lop3":
            return st(
                a[0],
                f"lop3_(as<uint32_t>({v(a[1])}), as<uint32_t>({v(a[2])}), as<uint32_t>({v(a[3])}), {int(a[4], 0)})",
            )
        if o == "sad":
            return st(
                a[0],
                f"({T})({as_(a[3])} + ({as_(a[1])} > {as_(a[2])} ? {as_(a[1])} - {as_(a[2])} : {as_(a[2])} - {as_(a[1])}))",
            )
        if o == "dp4a":
            return st(
                a[0],
                f"dp4a_<{int(mods[0] == 's32')}, {int(mods[1] == 's32')}>({v(a[1])}, {v(a[2])}, {v(a[3])})",
            )
        if o == "selp":
            return st(a[0], f"({v(a[3])}) ? {as_(a[1])} : {as_(a[2])}")
        if o == "slct":
            return None
        if o in ("setp", "set"):
            cmp = mods[0]
            tt = mods[-1] if o == "setp" else mods[-1]
            T2 = CT[tt]
            x, y = f"as<{T2}>({v(a[1])})", f"as<{T2}>({v(a[2])})"
            e = f"cmp_<{T2}>(C_{cmp}, {x}, {y})"
            boolop = next((m for m in mods if m in ("and", "or", "xor")), None)
            ds = a[0].split("|")
            if tt in ("f16x2", "bf16x2"):
                if o == "setp" and len(ds) == 2 and not boolop:
                    return (
                        f"auto x_ = {x}, y_ = {y}; "
                        + st(ds[0], f"cmp_(C_{cmp}, x_.x, y_.x)")
                        + st(ds[1], f"cmp_(C_{cmp}, x_.y, y_.y)")
                    )
                return None
            if boolop:
                cb = {"and": "&&", "or": "||", "xor": "!="}[boolop]
                q = v(a[3])
                e, e2 = f"({e} {cb} ({q}))", f"((!{e}) {cb} ({q}))"
            else:
                e2 = f"!{e}"
            if o == "set":
                d = mods[-2]
                return st(
                    a[0],
                    f"({e}) ? as<{CT[d]}>({'0x3f800000u' if d == 'f32' else '-1ll'}) : as<{CT[d]}>(0)",
                )
            return (
                f"bool x_ = {e}, y_ = {e2}; "
                + st(ds[0].strip(), "x_")
                + (st(ds[1].strip(), "y_") if len(ds) > 1 else "(void)y_;")
            )
        if o == "testp":
            return st(a[0], f"testp_{mods[0]}({as_(a[1])})")
        if o in ("atom", "red"):
            space = next((m for m in mods if m.startswith(("global", "shared"))), "generic")
            opn = next(
                m
                for m in mods
                if m in ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")
            )
            if any(re.fullmatch(r"v\d", m) for m in mods):
                return None
            d, rest_ = ("_", a) if o == "red" else (a[0], a[1:])
            ad = self.mem(rest_[0], space, SIZE[t], "a")
            args = ", ".join(as_(x) for x in rest_[1:])
            return f"auto x_ = atom_{opn}<{T}>({ad}, {args}); " + (
                st(d, "x_") if d != "_" else "(void)x_;"
            )
        if o in ("bar", "barrier"):
            k = mods[0] if mods[0] != "cta" else mods[1]
            if k == "sync":
                return f'rt_bar({v(a[0])}, {v(a[1]) if len(a) > 1 else 0}, "bar.sync");'
            if k == "arrive":
                return f"rt_bar_arrive({v(a[0])}, {v(a[1])});"
            if k == "red":
                f = next(m for m in mods if m in ("popc", "and", "or"))
                n = 3 if len(a) == 4 else 2
                return f'int x_ = rt_barred({v(a[n])}, "{f}"); ' + st(a[0], "x_")
            if k == "warp":
                return f"rt_syncwarp(as<uint32_t>({v(a[0])}));"
            if mods[0] == "cluster":
                return 'rt_bar(0, 0, "barrier.cluster");' if "wait" in mods else ";"
        if o == "shfl":
            ds = a[0].split("|")
            pr = ds[1].strip() if len(ds) > 1 else "_"
            return (
                f"bool q_; uint32_t x_ = rt_shfl(SHF_{mods[1] if mods[0] == 'sync' else mods[0]}, as<uint32_t>({v(a[1])}), as<uint32_t>({v(a[2])}), as<uint32_t>({v(a[3])}), as<uint32_t>({v(a[4])}), q_); "
                + st(ds[0].strip(), "x_")
                + (st(pr, "q_") if pr != "_" else "")
            )
        if o == "vote":
            k = next(m for m in mods if m in ("ballot", "any", "all", "uni"))
            return (
                f"bool q_ = {v(a[1])}; uint32_t m_ = as<uint32_t>({v(a[2])}); "
                + {
                    "ballot": st(a[0], 'emu::ballot(m_, q_, "vote.ballot")'),
                    "any": st(a[0], 'emu::ballot(m_, q_, "vote.any") != 0'),
                    "all": st(a[0], 'emu::ballot(m_, !q_, "vote.all") == 0'),
                    "uni": st(a[0], "rt_uni(m_, q_)"),
                }[k]
            )
        if o == "match":
            return (
                f"bool q_; uint32_t x_ = rt_match({int('all' in mods)}, {u_(a[1])}, as<uint32_t>({v(a[2])}), q_); "
                + st(a[0].split("|")[0].strip(), "x_")
                + (st(a[0].split("|")[1].strip(), "q_") if "|" in a[0] else "")
            )
        if o == "activemask":
            return st(a[0], "rt_activemask()")
        if o == "elect":
            return (
                f'uint32_t m_ = as<uint32_t>({v(a[1])}); emu::ballot(m_, 0, "elect"); uint32_t l_ = __builtin_ctz(m_); '
                + (st(a[0].split("|")[0], "l_") if not a[0].startswith("_") else "")
                + st(a[0].split("|")[1], "l_ == rt_lane()")
            )
        if o == "redux":
            return st(a[0], f"rt_redux<{T}>(R_{mods[1]}, {as_(a[1])}, as<uint32_t>({v(a[2])}))")
        if opc.startswith("cp.async"):
            if "commit_group" in mods:
                return "emu::cp_commit();"
            if "wait_group" in mods:
                return f"emu::cp_wait({v(a[0])});"
            if "wait_all" in mods:
                return "emu::cp_commit(); emu::cp_wait(0);"
            if mods[1] in ("ca", "cg"):
                n = int(a[2], 0)
                b = [x for x in a[3:]]
                src = (
                    v(b[0])
                    if b and not any(m.startswith("L2_cache_hint") for m in mods)
                    else str(n)
                )
                if b and not re.fullmatch(r"%r\w*|\d+", b[0]):
                    src = f"(({v(b[0])}) ? 0 : {n})"  # ignore-src predicate
                return f"rt_cp_async({self.mem(a[0], 'shared', n, '-')}, {self.mem(a[1], 'rawglobal', 0)}, {n}, (int)({src}));"
            return None
        if o == "ldmatrix":
            x = int(next(m for m in mods if re.fullmatch(r"x\d", m))[1:])
            tr = int("trans" in mods)
            if t != "b16":
                return None
            ds = split_ops(a[0].strip("{}"))
            return (
                f"uint32_t x_[4]; rt_ldmatrix<{x}, {tr}>(x_, {self.mem(a[1], 'shared', 16, 'off')}); "
                + " ".join(st(d, f"x_[{i}]") for i, d in enumerate(ds))
            )
        if o == "stmatrix":
            x = int(next(m for m in mods if re.fullmatch(r"x\d", m))[1:])
            ss = split_ops(a[1][1:-1]) if a[1].startswith("{") else [a[1]]
            return f"uint32_t x_[4] = {{{', '.join(f'as<uint32_t>({v(s)})' for s in ss)}}}; rt_stmatrix<{x}, {int('trans' in mods)}>(x_, {self.mem(a[0], 'shared', 16, 'off')});"
        if o == "movmatrix":
            return f"uint32_t x_ = rt_movmatrix(as<uint32_t>({v(a[1])})); " + st(a[0], "x_")
        if o == "mma":
            shape = next(m for m in mods if re.fullmatch(r"m\d+n\d+k\d+", m))
            K = int(shape.split("k")[1])
            ty = mods[mods.index("col") + 1 :]
            ty = [x for x in ty if x in CT or x == "tf32"]
            if not shape.startswith("m16n8") or "row" not in mods:
                return None
            key = (ty[1], K)
            E_ = {
                ("bf16", 16): "MB",
                ("f16", 16): "MH",
                ("bf16", 8): "MB",
                ("f16", 8): "MH",
                ("tf32", 8): "MT",
                ("tf32", 4): "MT",
                ("s8", 32): "MS8",
                ("s8", 16): "MS8",
            }.get(key)
            if E_ is None or ty[0] not in ("f32", "f16", "s32"):
                return None
            D, A, Bm, C = (split_ops(x[1:-1]) for x in a[:4])
            acc = {"f32": "float", "s32": "int32_t", "f16": "f16"}[ty[0]]
            if ty[0] == "f16":
                unpack = "f16 c_[4]; " + "".join(
                    f"c_[{2 * i}] = as<f16x2>({v(c)}).x; c_[{2 * i + 1}] = as<f16x2>({v(c)}).y; "
                    for i, c in enumerate(C)
                )
                pack = "".join(
                    st(d, f"(f16x2{{c_[{2 * i}], c_[{2 * i + 1}]}})") for i, d in enumerate(D)
                )
            else:
                unpack = f"{acc} c_[4] = {{{', '.join(f'as<{acc}>({v(c)})' for c in C)}}}; "
                pack = " ".join(st(d, f"c_[{i}]") for i, d in enumerate(D))
            return (
                unpack
                + f"uint32_t a_[4] = {{{', '.join(f'as<uint32_t>({v(x)})' for x in A)}}}, b_[2] = {{{', '.join(f'as<uint32_t>({v(x)})' for x in Bm)}}}; rt_mma<{E_}, {K}, {acc}>(c_, a_, b_); "
                + pack
            )
        return None

    def body(self, text):
        for kind, s in statements(text):
            if kind == "{":
                self.scopes.append({})
            elif kind == "}":
                self.scopes.pop() if len(self.scopes) > 1 else None
            elif kind == "label":
                self.code.append(f"{mangle(s)}: ;")
            elif s.startswith(".reg"):
                m = re.match(r"\.reg\s+\.(\w+)\s+(.*)", s)
                ct = {
                    "f32": "uint32_t",
                    "f64": "uint64_t",
                    "f16": "uint16_t",
                    "f16x2": "uint32_t",
                }.get(m[1]) or CT[UN.get(m[1], m[1])]
                for d in split_ops(m[2]):
                    r = re.fullmatch(r"([%\w$]+)<(\d+)>", d)
                    names = [f"{r[1]}{i}" for i in range(int(r[2]))] if r else [d]
                    for nm in names:
                        c = mangle(nm) + (f"_s{self.n}" if len(self.scopes) > 1 else "")
                        self.scopes[-1][nm] = c
                        self.decl.append(f"{ct} {c}{{}};")
                self.n += 1
            elif s.startswith((".local", ".param")):
                m = re.match(
                    r"\.(local|param)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([$%\w]+)(?:\[(\d+)\])?", s
                )
                c = mangle(m[4]) + f"_l{self.n}"
                self.n += 1
                self.sym[m[4]] = c
                self.decl.append(f"alignas(16) char {c}[{int(m[5] or 1) * SIZE[m[3]]}];")
            elif s.startswith(".shared"):
                self.m.add_shared(s)
            elif s.startswith(".pragma") or not s:
                pass
            elif s.startswith(".branchtargets") or ".branchtargets" in s:
                m = re.match(r".*\.branchtargets\s+(.*)", s, re.S)
                self.tables[self.last_label] = split_ops(m[1])
            elif s.startswith(".loc"):
                self.code.append(f"emu::loc = {s.split()[1]};")
            else:
                self.ins(s)
            if kind == "label":
                self.last_label = s


class Module:
    def __init__(self, text):
        text = re.sub(r"//[^\n]*", "", text)
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        text = re.sub(r"^\s*\.loc\s+\d+\s+(\d+)[^\n]*$", r".loc \1;", text, flags=re.M)
        text = re.sub(r"^\s*\.(file|version|target|address_size)\b[^\n]*$", "", text, flags=re.M)
        self.shared, self.smem, self.dyn, self.globals, self.fns, self.out = {}, 0, None, {}, {}, []
        self.kernels = []
        todo = []
        i = 0
        while True:
            m = re.compile(
                r"\s*((?:\.(?:visible|extern|weak|common)\s+)*)\.(entry|func|global|const|shared|section)\b"
            ).match(text, i)
            if not m:
                assert not text[i:].strip(), "unread PTX: " + text[i : i + 200]
                break
            if m[2] == "section":
                j = text.index("{", m.end())
                k = text.index("}", j)
                i = k + 1
                continue
            if m[2] in ("global", "const", "shared"):
                j = text.index(";", m.end())
                s = text[m.start() : j].strip()
                i = j + 1
                if m[2] == "shared":
                    self.add_shared(s)
                else:
                    self.add_global(s)
                continue
            j = text.index("{", m.end()) if True else 0
            sc = text.find(";", m.end())
            head = text[m.end() : j]
            if 0 <= sc < j:
                i = sc + 1
                h = text[m.end() : sc]
                nm = self.header(h)[0]
                self.fns.setdefault(nm, None)
                continue  # declaration
            d, k = 0, j
            while True:
                if text[k] == "{":
                    d += 1
                if text[k] == "}":
                    d -= 1
                    if not d:
                        break
                k += 1
            name, rets, params = self.header(head)
            todo.append((name, m[2] == "entry", params, rets, text[j + 1 : k], head))
            self.fns[name] = 1
            i = k + 1
        for nm, entry, params, rets, body, head in todo:
            for s in re.findall(r"^\s*(\.shared[^;]*);", body, re.M):
                self.add_shared(s)
        for nm, entry, params, rets, body, head in todo:
            f = Fn(self, nm, entry, params, rets)
            for idx, r in enumerate(rets):
                f.sym[r[0]] = f"R[{idx}]"
            f.body(body)
            self.out.append((f, head))

    def header(self, h):
        h = h.strip()
        rets = []
        if h.startswith("("):
            e = h.index(")")
            rets = self.params(h[1:e])
            h = h[e + 1 :].strip()
        m = re.match(r"([$\w]+)\s*(?:\((.*?)\))?", h, re.S)
        return m[1], rets, self.params(m[2] or "")

    def params(self, s):
        out = []
        for x in split_ops(s):
            m = re.search(r"\.(?:param|reg)\s+(.*)\s([$%\w]+)(?:\[(\d+)\])?\s*$", " " + x.strip())
            ty = [y for y in re.findall(r"\.(\w+)", m[1]) if y in SIZE][0]
            out.append((m[2], SIZE[ty] * int(m[3] or 1)))
        return out

    def add_shared(self, s):
        m = re.search(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([$\w]+)(?:\[(\d*)\])?", s)
        if m[3] in self.shared or m[3] == self.dyn:
            return
        if ".extern" in s or m[4] == "":
            self.dyn = m[3]
            return
        al = int(m[1] or SIZE[m[2]])
        self.smem = (self.smem + al - 1) // al * al
        self.shared[m[3]] = self.smem
        self.smem += SIZE[m[2]] * int(m[4] or 1)

    def add_global(self, s):
        m = re.search(
            r"\.(?:global|const)\s+(?:\.align\s+(\d+)\s+)?(?:\.attribute\(.*?\)\s+)?\.(\w+)\s+([$\w]+)((?:\[\d*\])*)\s*(?:=\s*(.*))?$",
            s,
            re.S,
        )
        dims = [int(x or 0) for x in re.findall(r"\[(\d*)\]", m[4])]
        n = 1
        for d in dims:
            n *= d
        init = (m[5] or "").strip()
        vals = [x for x in re.split(r"[{},\s]+", init) if x]
        n = max(n, len(vals))
        if any(re.match(r"[A-Za-z_$]", x) for x in vals):
            raise SystemExit("global initialised with an address: not supported: " + s[:120])
        vals = [x if not re.match(r"0[fFdD]", x) else "0x" + x[2:] for x in vals]
        u = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t", 8: "uint64_t"}[SIZE[m[2]]]
        self.globals[m[3]] = (
            f"alignas(16) static {u} {mangle(m[3])}[{n}] = {{{', '.join(f'({u})' + x for x in vals)}}};"
        )

    def cpp(self):
        o = [
            '#include "ptx_rt.h"',
            "namespace {",
            *self.globals.values(),
            *(
                f"static ModuleRange r_{mangle(g)}({mangle(g)}, sizeof {mangle(g)});"
                for g in self.globals
            ),
        ]
        o += [f"void {mangle(f.name)}(char** P, char** R);" for f, _ in self.out]
        for f, head in self.out:
            o.append(
                f"void {mangle(f.name)}(char** P, char** R) {{\n(void)P; (void)R; uint64_t SINK = 0; (void)SINK; bool CC = 0; (void)CC; uint32_t X_4; uint64_t X_8; (void)X_4; (void)X_8;"
            )
            o += f.decl + f.code + ["return;", "}"]
        o.append("}")
        o.append("static const emu::KernelInfo infos[] = {")
        for f, head in self.out:
            if f.entry:
                mt = re.search(r"\.(?:maxntid|reqntid)\s+([\d, ]+)", head)
                thr = 1
                for x in mt[1].split(",") if mt else []:
                    thr *= int(x)
                ps = ", ".join(str(p[1]) for p in f.params)
                o.append(
                    f'{{"{f.name}", &{mangle(f.name)}, {self.smem}, {len(f.params)}, {{{ps}}}, {thr if mt else 1024}}},'
                )
        o += ["};", "static emu::Registrar registrar(infos, sizeof infos / sizeof infos[0]);", ""]
        return "\n".join(o)


if __name__ == "__main__":
    open(sys.argv[2], "w").write(Module(open(sys.argv[1]).read()).cpp())
