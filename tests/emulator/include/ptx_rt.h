// Semantics of PTX instructions for the code ptx2cpp.py writes.
#pragma once
#include "cuda_emu.h"
#include <limits>
typedef unsigned __int128 u128;
struct emu_exit {};
namespace emu {
struct KernelInfo { const char* name; void (*fn)(char**, char**); size_t smem; int nparams; int psize[64]; int maxthreads; };
struct Registrar { Registrar(const KernelInfo* k, int n); };
inline size_t static_smem = 0;
}
using emu::E;
// ---- registers hold raw bits --------------------------------------------------------------------
typedef _Float16 f16;
struct bf16 { uint16_t b; bf16() = default; bf16(float f) { uint32_t u; memcpy(&u, &f, 4); b = f != f ? 0x7fff : (u + 0x7fff + ((u >> 16) & 1)) >> 16; } operator float() const { uint32_t u = (uint32_t)b << 16; float f; memcpy(&f, &u, 4); return f; } };
template <class H> struct pair2 { H x, y; };
using f16x2 = pair2<f16>; using bf16x2 = pair2<bf16>;
#define OP2(op) template <class H> pair2<H> operator op(pair2<H> a, pair2<H> b) { return {H(float(a.x) op float(b.x)), H(float(a.y) op float(b.y))}; }
OP2(+) OP2(-) OP2(*)
#undef OP2
template <class H> pair2<H> operator-(pair2<H> a) { return {H(-float(a.x)), H(-float(a.y))}; }
template <class T> constexpr bool isfp = std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, f16> || std::is_same_v<T, bf16> || std::is_same_v<T, f16x2> || std::is_same_v<T, bf16x2>;
template <class T> constexpr bool ishalf = std::is_same_v<T, f16> || std::is_same_v<T, bf16>;
template <class T, class R> inline T as(R r) { if constexpr (isfp<T>) { static_assert(sizeof(R) >= sizeof(T) || sizeof(R) == 8); T t; memcpy(&t, &r, sizeof t); return t; } else return static_cast<T>(r); }
template <class R, class T> inline void set(R& d, T v) { if constexpr (isfp<T>) { R r = 0; static_assert(sizeof(R) >= sizeof(T)); memcpy(&r, &v, sizeof v); d = r; } else d = static_cast<R>(v); }
inline uint16_t bits(f16 h) { uint16_t b; memcpy(&b, &h, 2); return b; } inline uint16_t bits(bf16 h) { return h.b; }
// ---- memory: generic and global addresses are host addresses, shared ones offsets --------------------
// Race check (EMU_RACE=1): two accesses to one byte of shared memory by different threads, one of them a write, with no barrier between them.
struct Shadow { uint32_t wep = 0, wwep = 0, rep = 0, rwep = 0, wloc = 0, rloc = 0; int16_t wt = -1, rt = -1; uint8_t watomic = 0, rmany = 0, init = 0; uint32_t iblk = 0; };
inline auto& shadow = *new std::vector<Shadow>; inline int race_on = 0, init_on = 0, races = 0;
inline const char* emu_sv = nullptr;        // the bytes a plain store is about to write: the same value again is no race
inline void race_report(const char* k, uint64_t off, int a, unsigned la, int b, unsigned lb) { char m[256]; snprintf(m, sizeof m, "race (%s) of shared byte %lu: thread %d at line %u and thread %d at line %u,", k, (unsigned long)off, a, la, b, lb); emu::die(m); }
inline void rt_track(uint64_t off, int size, char rw) {
  if (shadow.size() < E.dyn_bytes) shadow.resize(E.dyn_bytes); int t = E.cur; uint32_t be = emu::block_epoch, we = E.w[t >> 5].epoch;
  for (int i = 0; i < size; i++) { Shadow& s = shadow[off + i];
    if (init_on && rw != 'w' && s.iblk != E.block_id) { char m[128]; snprintf(m, sizeof m, "uninitialised shared memory read at byte %lu", (unsigned long)off + i); emu::die(m); }
    if (race_on && !(rw == 'w' && emu_sv && s.wep == be && emu_sv[i] == (char)E.dyn[off + i])) {
      if (s.wep == be && s.wt != t && !(rw == 'a' && s.watomic) && !((s.wt >> 5) == (t >> 5) && s.wwep < we)) { race_report(rw == 'r' ? "write/read" : "write/write", off + i, s.wt, s.wloc, t, emu::loc); s.wep = 0; return; }
      if (rw != 'r' && s.rep == be && (s.rt != t || s.rmany) && !((s.rt >> 5) == (t >> 5) && s.rwep < we && s.rmany < 2)) { race_report("read/write", off + i, s.rt, s.rloc, t, emu::loc); s.rep = 0; return; }
    }
    if (rw == 'r') { if (s.rep != be) { s.rmany = 0; s.rt = t; } else if (s.rt != t) { s.rmany = std::max<uint8_t>(s.rmany, (s.rt >> 5) == (t >> 5) ? 1 : 2); s.rt = t; } s.rep = be; s.rwep = we; s.rloc = emu::loc; }
    else { s.wep = be; s.wwep = we; s.wt = t; s.wloc = emu::loc; s.watomic = rw == 'a'; s.iblk = E.block_id; } } }
inline void rt_track_ptr(void* p, int n) { rt_track((uint64_t)((unsigned char*)p - E.dyn), n, 'w'); }
inline char* rt_shared(uint64_t off, int size, char rw = 'r') { off = (uint32_t)off; if (off + size > E.dyn_bytes) { char m[128]; snprintf(m, sizeof m, "shared memory access out of bounds: byte %lu, %d bytes, of %zu", (unsigned long)off, size, E.dyn_bytes); emu::die(m); } if (off % size) emu::die("misaligned shared memory access"); if ((race_on || init_on) && rw != '-') rt_track(off, size, rw); return (char*)E.dyn + off; }
// Bounds check of global memory without a sanitizer: once emu_watch() has named the buffers, every .global access must fall inside one.
struct Range { uint64_t lo, hi; bool ro; }; inline auto& ranges = *new std::vector<Range>; inline auto& allocations = *new std::vector<Range>; inline auto& module_ranges = *new std::vector<Range>; inline size_t last_range = 0;
struct ModuleRange { ModuleRange(const void* p, size_t n) { module_ranges.push_back({(uint64_t)p, (uint64_t)p + n, false}); } };
inline void rt_bounds(uint64_t p, int size, char rw) {
  if (last_range < ranges.size() && p >= ranges[last_range].lo && p + size <= ranges[last_range].hi && !(ranges[last_range].ro && rw != 'r')) return;
  for (size_t i = 0; i < ranges.size(); i++) if (p >= ranges[i].lo && p + size <= ranges[i].hi) { if (ranges[i].ro && rw != 'r') emu::die("write to a read-only buffer"); last_range = i; return; }
  for (auto& r : module_ranges) if (p >= r.lo && p + size <= r.hi) return;
  for (auto& r : allocations) if (p >= r.lo && p + size <= r.hi) return;
  char m[256]; snprintf(m, sizeof m, "global %s out of bounds: %d bytes at %#lx", rw == 'r' ? "read" : "write", size, (unsigned long)p);
  for (auto& r : ranges) if (p + 4096 >= r.lo && p < r.hi + 4096) snprintf(m, sizeof m, "global %s out of bounds: %d bytes at byte %ld of a tensor of %lu bytes", rw == 'r' ? "read" : "write", size, (long)(p - r.lo), (unsigned long)(r.hi - r.lo));
  emu::die(m); }
inline char* rt_global(uint64_t p, int size, char rw) { if (p % size) emu::die("misaligned global access"); if (!ranges.empty()) rt_bounds(p, size, rw); return (char*)p; }
inline char* rt_ptr(uint64_t p, int size, char rw = 'r') { if ((race_on || init_on) && p - (uint64_t)E.dyn < E.dyn_bytes && size) rt_track(p - (uint64_t)E.dyn, size, rw); if (size && p % size) emu::die("misaligned global or generic access"); return (char*)p; }
inline uint64_t rt_to_shared(uint64_t p) { return p - (uint64_t)E.dyn; } inline uint64_t rt_from_shared(uint64_t o) { return (uint64_t)E.dyn + (uint32_t)o; }
inline bool rt_is_shared(uint64_t p) { return p - (uint64_t)E.dyn < E.dyn_bytes; }
inline uint64_t rt_dyn_off() { return (emu::static_smem + 1023) / 1024 * 1024; } inline size_t rt_dyn_bytes() { return E.dyn_bytes - rt_dyn_off(); }
inline uint32_t rt_lin() { return E.f[E.cur].lin; } inline uint32_t rt_lane() { return rt_lin() & 31; }
inline uint32_t rt_lanemask_eq() { return 1u << rt_lane(); } inline uint32_t rt_lanemask_lt() { return (1u << rt_lane()) - 1; } inline uint32_t rt_lanemask_le() { return rt_lanemask_lt() | rt_lanemask_eq(); } inline uint32_t rt_lanemask_gt() { return ~rt_lanemask_le(); } inline uint32_t rt_lanemask_ge() { return ~rt_lanemask_lt(); }
// ---- arithmetic -------------------------------------------------------------------------------------
enum Rnd { RN, RZ, RM, RP };
template <class F> inline F round_(F x, Rnd r) { switch (r) { case RN: return std::nearbyint(x); case RZ: return std::trunc(x); case RM: return std::floor(x); default: return std::ceil(x); } }
template <class T> inline double wide(T x) { if constexpr (ishalf<T>) return float(x); else return x; }
template <class D, class S> inline D cvt_(S s, Rnd r, int integral = 0) {
  if constexpr (isfp<D> && isfp<S>) {
    if (integral) { if constexpr (ishalf<S>) return D(round_(float(s), r)); else return D(round_(s, r)); }
    if constexpr (std::is_same_v<S, double>) { D d = D(float(s)); if constexpr (std::is_same_v<D, double>) return s; else if constexpr (std::is_same_v<D, float>) { if (r == RZ && std::fabs((double)d) > std::fabs(s)) d = std::nextafter(d, 0.f); if (r == RM && d > s) d = std::nextafter(d, -INFINITY); if (r == RP && d < s) d = std::nextafter(d, INFINITY); return d; } else return D((float)s); }
    else { if (r == RZ && sizeof(D) < sizeof(S)) { D d = D(float(s)); if (std::fabs(float(d)) > std::fabs(float(s))) { uint16_t b; memcpy(&b, &d, 2); b--; memcpy(&d, &b, 2); } return d; } return D(float(s)); }
  } else if constexpr (isfp<D>) { if constexpr (std::is_same_v<D, float>) { float f = (float)s; if (r != RN) { long double e = s; if (r == RZ && std::fabs((long double)f) > std::fabs(e)) f = std::nextafter(f, 0.f); if (r == RM && (long double)f > e) f = std::nextafter(f, -INFINITY); if (r == RP && (long double)f < e) f = std::nextafter(f, INFINITY); } return f; } else if constexpr (std::is_same_v<D, double>) return (double)s; else return D((float)s); }
  else if constexpr (isfp<S>) { double x = wide(s); if (x != x) return sizeof(D) == 8 ? (D)(1ull << 63) : (D)0; x = round_(x, r); if (x >= (double)std::numeric_limits<D>::max()) return std::numeric_limits<D>::max(); if (x <= (double)std::numeric_limits<D>::lowest()) return std::numeric_limits<D>::lowest(); return (D)x; }
  else return (D)s;
}
template <class D, class S> inline D satint_(S s) { if constexpr (isfp<S>) return cvt_<D, S>(s, RN); else { __int128 x = s, lo = std::numeric_limits<D>::lowest(), hi = std::numeric_limits<D>::max(); return (D)(x < lo ? lo : x > hi ? hi : x); } }
template <class T> inline T sat_(T x) { if constexpr (std::is_same_v<T, f16x2> || std::is_same_v<T, bf16x2>) { x.x = sat_(x.x); x.y = sat_(x.y); return x; } else return float(x) != float(x) ? T(0.f) : float(x) < 0 ? T(0.f) : float(x) > 1 ? T(1.f) : x; }
template <class T> inline T fma_(T a, T b, T c) { if constexpr (ishalf<T>) return T((float)((double)float(a) * float(b) + float(c))); else if constexpr (std::is_same_v<T, f16x2> || std::is_same_v<T, bf16x2>) return {fma_(a.x, b.x, c.x), fma_(a.y, b.y, c.y)}; else return std::fma(a, b, c); }
template <class T> inline T min_(T a, T b, int nan) { if constexpr (std::is_same_v<T, f16x2> || std::is_same_v<T, bf16x2>) return {min_(a.x, b.x, nan), min_(a.y, b.y, nan)}; else { if (float(a) != float(a)) return nan ? a : b; if (float(b) != float(b)) return nan ? b : a; return wide(a) < wide(b) || (wide(a) == wide(b) && std::signbit(wide(a))) ? a : b; } }
template <class T> inline T max_(T a, T b, int nan) { if constexpr (std::is_same_v<T, f16x2> || std::is_same_v<T, bf16x2>) return {max_(a.x, b.x, nan), max_(a.y, b.y, nan)}; else { if (float(a) != float(a)) return nan ? a : b; if (float(b) != float(b)) return nan ? b : a; return wide(a) > wide(b) || (wide(a) == wide(b) && !std::signbit(wide(a))) ? a : b; } }
template <class T, class Fn> inline T un_(T x, Fn f) { if constexpr (std::is_same_v<T, f16x2> || std::is_same_v<T, bf16x2>) return {un_(x.x, f), un_(x.y, f)}; else if constexpr (ishalf<T>) return T((float)f((double)float(x))); else if constexpr (std::is_same_v<T, float>) return (float)f((double)x); else return f(x); }
#define UN1(n, e) template <class T> inline T n##_(T x) { return un_(x, [](double v) { return (double)(e); }); }
UN1(abs, std::fabs(v)) UN1(sqrt, std::sqrt(v)) UN1(rsqrt, 1 / std::sqrt(v)) UN1(rcp, 1 / v) UN1(ex2, std::exp2(v)) UN1(lg2, std::log2(v)) UN1(sin, std::sin(v)) UN1(cos, std::cos(v)) UN1(tanh, std::tanh(v))
template <class T> inline T copysign_(T a, T b) { return std::copysign(b, a); }
template <class T> inline T mulhi_(T a, T b) { if constexpr (sizeof(T) == 8) { if constexpr (std::is_signed_v<T>) return (T)(((__int128)a * b) >> 64); else return (T)(((u128)a * b) >> 64); } else { if constexpr (std::is_signed_v<T>) return (T)(((int64_t)a * b) >> (8 * sizeof(T))); else return (T)(((uint64_t)a * b) >> (8 * sizeof(T))); } }
template <class U, class X> inline bool carry_add(U a, U b, bool c, X& x) { u128 s = (u128)a + b + c; x = (X)s; return (s >> (8 * sizeof(U))) & 1; }
template <class U, class X> inline bool carry_sub(U a, U b, bool c, X& x) { u128 s = (u128)a - b - c; x = (X)s; return (s >> (8 * sizeof(U))) & 1; }
template <class U> inline U shl_(U a, uint32_t n) { return n >= 8 * sizeof(U) ? 0 : (U)(a << n); }
template <class T> inline T shr_(T a, uint32_t n) { if (n >= 8 * sizeof(T)) return a < T(0) ? T(-1) : T(0); return (T)(a >> n); }
inline uint32_t shf_(int left, int wrap, uint32_t a, uint32_t b, uint32_t c) { uint32_t n = wrap ? c & 31 : std::min(c, 32u); uint64_t v = (uint64_t)b << 32 | a; return left ? (uint32_t)((n == 32 ? v << 32 : v << n) >> 32) : (uint32_t)(v >> n); }
template <class T> inline T bfe_(T a, uint32_t pos, uint32_t len) { constexpr int W = 8 * sizeof(T); pos &= 255; len &= 255; using U = std::make_unsigned_t<T>; bool sg = false; if (std::is_signed_v<T> && len) sg = ((U)a >> std::min<uint32_t>(pos + len - 1, W - 1)) & 1; U r = pos >= (uint32_t)W ? 0 : (U)a >> pos; uint32_t have = pos >= (uint32_t)W ? 0 : W - pos; uint32_t keep = std::min(len, have); if (keep < (uint32_t)W) r &= ((U)1 << keep) - 1; if (sg) r |= keep >= (uint32_t)W ? 0 : ~(((U)1 << keep) - 1); return len ? (T)r : 0; }
template <class T> inline T bfi_(T a, T b, uint32_t pos, uint32_t len) { constexpr uint32_t W = 8 * sizeof(T); pos &= 255; len &= 255; if (!len || pos >= W) return b; T m = len >= W ? (T)~(T)0 : (T)(((T)1 << len) - 1); return (T)((b & ~(m << pos)) | ((a & m) << pos)); }
template <class T> inline uint32_t clz_(T a) { return a ? (sizeof(T) == 8 ? __builtin_clzll((uint64_t)a) : __builtin_clz((uint32_t)a)) : 8 * sizeof(T); }
template <class T> inline uint32_t bfind_(T a, int sh) { if (std::is_signed_v<T> && a < 0) a = ~a; if (!a) return 0xffffffffu; uint32_t p = 8 * sizeof(T) - 1 - clz_(a); return sh ? 8 * sizeof(T) - 1 - p : p; }
template <class T> inline T brev_(T a) { T r = 0; for (unsigned i = 0; i < 8 * sizeof(T); i++) r |= (T)((a >> i) & 1) << (8 * sizeof(T) - 1 - i); return r; }
inline uint32_t prmt_(uint32_t a, uint32_t b, uint32_t c) { uint64_t v = (uint64_t)b << 32 | a; uint32_t r = 0; for (int i = 0; i < 4; i++) { uint32_t s = c >> 4 * i & 15, x = v >> 8 * (s & 7) & 255; if (s & 8) x = x & 128 ? 255 : 0; r |= x << 8 * i; } return r; }
inline uint32_t lop3_(uint32_t a, uint32_t b, uint32_t c, int l) { uint32_t r = 0; for (int i = 0; i < 8; i++) if (l >> i & 1) r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c); return r; }
template <int SA, int SB> inline int32_t dp4a_(uint32_t a, uint32_t b, uint32_t c) { int64_t s = (int32_t)c; for (int i = 0; i < 4; i++) s += (SA ? (int)(int8_t)(a >> 8 * i) : (int)(uint8_t)(a >> 8 * i)) * (SB ? (int)(int8_t)(b >> 8 * i) : (int)(uint8_t)(b >> 8 * i)); return (int32_t)s; }
inline uint32_t bmsk_(uint32_t pos, uint32_t len, int clamp) { if (!clamp) { pos &= 31; len &= 31; } if (pos >= 32 || !len) return 0; uint64_t m = len >= 32 ? 0xffffffffull : (1ull << len) - 1; return (uint32_t)(m << pos); }
enum Cmp { C_eq, C_ne, C_lt, C_le, C_gt, C_ge, C_lo, C_ls, C_hi, C_hs, C_equ, C_neu, C_ltu, C_leu, C_gtu, C_geu, C_num, C_nan };
template <class T> inline bool cmp_(Cmp c, T x, T y) {
  auto a = [&] { if constexpr (ishalf<T>) return float(x); else return x; }(); auto b = [&] { if constexpr (ishalf<T>) return float(y); else return y; }();
  bool nan = false; if constexpr (isfp<T>) nan = a != a || b != b;
  switch (c) { case C_eq: return a == b; case C_ne: return a != b && !nan; case C_lt: case C_lo: return a < b; case C_le: case C_ls: return a <= b; case C_gt: case C_hi: return a > b; case C_ge: case C_hs: return a >= b;
    case C_equ: return nan || a == b; case C_neu: return nan || a != b; case C_ltu: return nan || a < b; case C_leu: return nan || a <= b; case C_gtu: return nan || a > b; case C_geu: return nan || a >= b; case C_num: return !nan; default: return nan; } }
template <class T> inline bool testp_finite(T x) { return std::isfinite(x); } template <class T> inline bool testp_infinite(T x) { return std::isinf(x); } template <class T> inline bool testp_notanumber(T x) { return std::isnan(x); } template <class T> inline bool testp_number(T x) { return !std::isnan(x); }
inline uint32_t rt_tf32(uint32_t r, int rna) { return rna ? (r + 0x1000u) & 0xffffe000u : (r + 0xfffu + (r >> 13 & 1)) & 0xffffe000u; }
// ---- atomics -----------------------------------------------------------------------------------------
#define ATOM(n, e) template <class T> inline T atom_##n(char* p, T v) { T o; memcpy(&o, p, sizeof o); T w = (e); memcpy(p, &w, sizeof w); return o; }
template <class T> inline T addw(T a, T b) { if constexpr (ishalf<T>) return T(float(a) + float(b)); else if constexpr (std::is_integral_v<T>) return (T)((std::make_unsigned_t<T>)a + (std::make_unsigned_t<T>)b); else return a + b; }
ATOM(add, addw(o, v)) ATOM(min, (v < o ? v : o)) ATOM(max, (o < v ? v : o)) ATOM(and, (T)(o & v)) ATOM(or, (T)(o | v)) ATOM(xor, (T)(o ^ v)) ATOM(exch, v) ATOM(inc, (o >= v ? T(0) : T(o + 1))) ATOM(dec, (o == 0 || o > v ? v : T(o - 1)))
template <class T> inline T atom_cas(char* p, T c, T v) { T o; memcpy(&o, p, sizeof o); if (o == c) memcpy(p, &v, sizeof v); return o; }
// ---- barriers, warp operations ------------------------------------------------------------------------
inline int named_n[16];
inline void rt_bar(int64_t id, int64_t cnt, const char* w) {
  if (cnt == 0 || (cnt == E.n && id == 0)) { emu::barrier(0, 0, w); return; }
  struct N { int n = 0; std::vector<int> q; }; static N nb[16]; N& b = nb[id & 15]; emu::Fiber& me = E.f[E.cur];
  if (++b.n == cnt) { b.n = 0; for (int i : b.q) E.f[i].st = emu::READY; b.q.clear(); named_n[id & 15] = 0; } else { b.q.push_back(E.cur); me.where = "named barrier"; me.st = emu::COLLECT; emu::to_main(); } }
inline void rt_bar_arrive(int64_t, int64_t) { emu::die("bar.arrive: not emulated"); }
inline int rt_barred(bool p, const char* f) { int c = emu::barrier(f[0] == 'a' ? !p : p, 0, "bar.red"); return f[0] == 'p' ? c : f[0] == 'a' ? c == 0 : c != 0; }
inline void rt_yield() { emu::to_main(); }
inline void rt_syncwarp(uint32_t m) { int d = 0; emu::collect(m, &d, "bar.warp.sync", [](void**, uint32_t) { E.w[rt_lin() / 32].epoch++; }); }
enum Shf { SHF_up, SHF_down, SHF_bfly, SHF_idx };
inline uint32_t rt_shfl(Shf k, uint32_t v, uint32_t b, uint32_t c, uint32_t mask, bool& pred) {
  uint32_t lane = rt_lane(), bval = b & 31, cval = c & 31, seg = c >> 8 & 31, maxl = (lane & seg) | (cval & ~seg), minl = lane & seg; int j; bool p;
  switch (k) { case SHF_up: j = (int)lane - (int)bval; p = j >= (int)maxl; break; case SHF_down: j = lane + bval; p = j <= (int)maxl; break; case SHF_bfly: j = lane ^ bval; p = j <= (int)maxl; break; default: j = minl | (bval & ~seg); p = j <= (int)maxl; }
  if (!p) j = lane; pred = p; static const char* nm[] = {"shfl.up", "shfl.down", "shfl.bfly", "shfl.idx"}; return emu::shuffle(mask, v, nm[k], [j](int) { return j; }); }
template <class V> inline uint32_t rt_match(int all, V v, uint32_t mask, bool& pred) { struct S { V v; uint32_t r; } s{v, 0}; emu::collect(mask, &s, "match", [](void** a, uint32_t m) { for (int l = 0; l < 32; l++) if (m >> l & 1) { uint32_t r = 0; for (int q = 0; q < 32; q++) if ((m >> q & 1) && ((S*)a[q])->v == ((S*)a[l])->v) r |= 1u << q; ((S*)a[l])->r = r; } }); pred = s.r == mask; return all ? (pred ? mask : 0) : s.r; }
inline bool rt_uni(uint32_t m, bool q) { uint32_t b = emu::ballot(m, q, "vote.uni"); return b == 0 || b == m; }
inline uint32_t rt_activemask() { return E.w[rt_lin() / 32].live; }
enum Red { R_add, R_min, R_max, R_and, R_or, R_xor };
template <class T> inline T rt_redux(Red k, T v, uint32_t mask) { struct S { T v, r; Red k; } s{v, v, k}; emu::collect(mask, &s, "redux", [](void** a, uint32_t m) { bool f = true; T r{}; Red k{}; for (int l = 0; l < 32; l++) if (m >> l & 1) { S* x = (S*)a[l]; k = x->k; if (f) r = x->v; else if constexpr (std::is_same_v<T, float>) r = k == R_min ? std::fmin(r, x->v) : std::fmax(r, x->v); else switch (k) { case R_add: r = r + x->v; break; case R_min: r = std::min(r, x->v); break; case R_max: r = std::max(r, x->v); break; case R_and: r = r & x->v; break; case R_or: r = r | x->v; break; default: r = r ^ x->v; } f = false; } for (int l = 0; l < 32; l++) if (m >> l & 1) ((S*)a[l])->r = r; }); return s.r; }
inline void rt_cp_async(char* s, char* g, int n, int src) { if (src < 0 || src > n) emu::die("cp.async: bad src-size"); if (src && !ranges.empty()) rt_bounds((uint64_t)g, src, 'r'); emu::cp_async(s, g, n, src); }
template <int X, int T> inline void rt_ldmatrix(uint32_t* r, uint64_t off) { char* s = rt_lane() < 8 * X ? rt_shared(off, 16) : nullptr; struct S { char* p; uint32_t* r; } me{s, r};
  emu::collect(0xffffffffu, &me, "ldmatrix", [](void** a, uint32_t) { uint32_t o[4][32]; for (int j = 0; j < X; j++) { uint16_t m[8][8]; for (int i = 0; i < 8; i++) memcpy(m[i], ((S*)a[j * 8 + i])->p, 16); for (int l = 0; l < 32; l++) { int x = l / 4, y = l % 4 * 2; o[j][l] = T ? m[y][x] | (uint32_t)m[y + 1][x] << 16 : m[x][y] | (uint32_t)m[x][y + 1] << 16; } } for (int l = 0; l < 32; l++) for (int j = 0; j < X; j++) ((S*)a[l])->r[j] = o[j][l]; }); }
template <int X, int T> inline void rt_stmatrix(uint32_t* r, uint64_t off) { char* s = rt_lane() < 8 * X ? rt_shared(off, 16, 'w') : nullptr; struct S { char* p; uint32_t* r; } me{s, r};
  emu::collect(0xffffffffu, &me, "stmatrix", [](void** a, uint32_t) { for (int j = 0; j < X; j++) { uint16_t m[8][8]; for (int l = 0; l < 32; l++) { int x = l / 4, y = l % 4 * 2; uint32_t v = ((S*)a[l])->r[j]; if (T) { m[y][x] = v; m[y + 1][x] = v >> 16; } else { m[x][y] = v; m[x][y + 1] = v >> 16; } } for (int i = 0; i < 8; i++) memcpy(((S*)a[j * 8 + i])->p, m[i], 16); } }); }
inline uint32_t rt_movmatrix(uint32_t v) { struct S { uint32_t i, o; } me{v, 0}; emu::collect(0xffffffffu, &me, "movmatrix", [](void** a, uint32_t) { uint16_t m[8][8]; for (int l = 0; l < 32; l++) { uint32_t v = ((S*)a[l])->i; m[l / 4][l % 4 * 2] = v; m[l / 4][l % 4 * 2 + 1] = v >> 16; } for (int l = 0; l < 32; l++) ((S*)a[l])->o = m[l % 4 * 2][l / 4] | (uint32_t)m[l % 4 * 2 + 1][l / 4] << 16; }); return me.o; }
struct MB { static constexpr int P = 2; static float get(uint32_t r, int h) { return as<bf16>((uint16_t)(r >> 16 * h)); } };
struct MH { static constexpr int P = 2; static float get(uint32_t r, int h) { return (float)as<f16>((uint16_t)(r >> 16 * h)); } };
struct MT { static constexpr int P = 1; static float get(uint32_t r, int) { return as<float>(r & 0xffffe000u); } };
struct MS8 { static constexpr int P = 4; static float get(uint32_t r, int h) { return (int8_t)(r >> 8 * h); } };
template <class M, int K, class C> inline void rt_mma(C* c, const uint32_t* a, const uint32_t* b) { constexpr int P = M::P, NA = 16 * K / (32 * P), NB = K * 8 / (32 * P);
  struct S { C* c; const uint32_t *a, *b; } me{c, a, b};
  emu::collect(0xffffffffu, &me, "mma", [](void** s, uint32_t) { float A[16][K], B[8][K];
    for (int l = 0; l < 32; l++) { S* x = (S*)s[l]; int g = l / 4, q = l % 4; for (int r = 0; r < NA; r++) for (int h = 0; h < P; h++) A[g + 8 * (r & 1)][q * P + h + (r >> 1) * 4 * P] = M::get(x->a[r], h); for (int r = 0; r < NB; r++) for (int h = 0; h < P; h++) B[g][q * P + h + r * 4 * P] = M::get(x->b[r], h); }
    for (int l = 0; l < 32; l++) { S* x = (S*)s[l]; int g = l / 4, q = l % 4; for (int i = 0; i < 4; i++) { if constexpr (std::is_same_v<C, int32_t>) { int64_t t = x->c[i]; for (int k = 0; k < K; k++) t += (int64_t)(A[g + 8 * (i >> 1)][k] * B[q * 2 + (i & 1)][k]); x->c[i] = (int32_t)t; } else { float t = (float)x->c[i]; for (int k = 0; k < K; k++) t += A[g + 8 * (i >> 1)][k] * B[q * 2 + (i & 1)][k]; x->c[i] = (C)t; } } } }); }
inline void rt_assertfail(char* msg, char* file, char* line, char* fn, char*) { auto s = [](char* p) { char* q; memcpy(&q, p, 8); return q; }; int ln; memcpy(&ln, line, 4); fprintf(stderr, "%s:%d: %s: assertion `%s' failed\n", s(file), ln, s(fn), s(msg)); emu::die("device assert"); }
inline int rt_vprintf(char* f, char* args) { char *fmt, *a; memcpy(&fmt, f, 8); memcpy(&a, args, 8); for (char* p = fmt; *p; p++) { if (*p != '%') { putchar(*p); continue; } char sp[32]; int n = 0; sp[n++] = *p++; while (!strchr("diuxXcfeEgGsp%", *p)) { if (*p != 'l') sp[n++] = *p; p++; } if (*p == '%') { putchar('%'); continue; }
  bool w = strchr("feEgGsp", *p) || p[-1] == 'l'; if (w) a = (char*)(((uintptr_t)a + 7) & ~7ull); if (w && !strchr("feEgGsp", *p)) { sp[n++] = 'l'; sp[n++] = 'l'; } sp[n++] = *p; sp[n] = 0; if (strchr("feEgG", *p)) { double d; memcpy(&d, a, 8); printf(sp, d); a += 8; } else if (w) { long long v; memcpy(&v, a, 8); printf(sp, v); a += 8; } else { int v; memcpy(&v, a, 4); printf(sp, v); a += 4; } } return 0; }
inline void rt_vprintf(char* f, char* a, char* r) { int n = rt_vprintf(f, a); memcpy(r, &n, 4); }
