// One vector type per instruction set. This file and the simd_*.h behind it alone have intrinsics.
//
// A file in csrc/cpu is compiled once per instruction set, with FUSIONOPS_ISA naming the namespace,
// so `Vec` is another type in each. What is not AVX2 or AVX-512 is GCC's portable
// vector extension: SSE2 on baseline x86-64, NEON on aarch64.
//
// fused_multiply_add is one instruction where the processor has it. Whichever it is, it is the
// same for every tile shape, which is what keeps a score's bits the same in all of them.
//
// maximum is b where either is NaN. shift_to_exponent moves the lowest bits of the mantissa to the
// exponent's place: half of a multiplication by a power of two (exp.h).
//
// Dot<E> is one step of a score over packed elements of kind E: a lane adds kGroup products.
//   float, double   one product, fused
//   bfloat16        two: vdpbf16ps where it exists, else two fused products
//   int8_t          four: int8 of the left with uint8 of the right, exact in int32 (VNNI's
//   vpdpbusd)
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/half.h"

#ifndef FUSIONOPS_ISA
#error "csrc/cpu is compiled once per instruction set: see fusionops_add_isa in CMakeLists.txt"
#endif

#if defined(__AVX512F__)
#include "cpu/simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "cpu/simd_avx2.h"
#else
#include "cpu/simd_portable.h"
#endif

namespace fusionops::cpu::FUSIONOPS_ISA {

// A vector of elements as the accumulation type.
inline Vec<float> load_widened(const float* p) { return Vec<float>::load(p); }
inline Vec<double> load_widened(const double* p) { return Vec<double>::load(p); }
#if defined(__AVX512F__)
inline Vec<float> load_widened(const bfloat16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline Vec<float> load_widened(const float16* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
#elif defined(__AVX2__)
inline Vec<float> load_widened(const bfloat16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
inline Vec<float> load_widened(const float16* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
#else
template <class Half>
inline Vec<float> load_widened(const Half* p) {
  return {Vec<float>::Native{to_float(p[0]), to_float(p[1]), to_float(p[2]), to_float(p[3])}};
}
#endif

// Non-temporal stores are weakly ordered: a task that made some ends with this.
inline void finish_streaming() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

template <class E>
struct Dot {  // float, double
  using Left = E;
  using Right = E;
  using Sum = E;
  static constexpr int kGroup = 1;
  using Word = Vec<E>;
  static Word broadcast(const E* p) { return Word::broadcast(*p); }
  static Word load(const E* p) { return Word::load(p); }
  static Vec<E> step(Word left, Word right, Vec<E> sum) {
    return fused_multiply_add(left, right, sum);
  }
};

// A group is one 32-bit word, so a lane's place in memory is that of a float.
template <class L, class R, class S, int kCount>
struct WordDot {
  using Left = L;
  using Right = R;
  using Sum = S;
  static constexpr int kGroup = kCount;
  using Word = Vec<std::int32_t>;
  static Word broadcast(const L* p) {
    std::int32_t word;
    std::memcpy(&word, p, sizeof(word));
    return Word::broadcast(word);
  }
  static Word load(const R* p) { return Word::load(p); }
};

template <>
struct Dot<bfloat16> : WordDot<bfloat16, bfloat16, float, 2> {
  static Vec<float> step(Word left, Word right, Vec<float> sum) {
    return dot_pairs(left, right, sum);
  }
};

template <>
struct Dot<std::int8_t> : WordDot<std::int8_t, std::uint8_t, std::int32_t, 4> {
  static Word step(Word left, Word right, Word sum) { return dot_bytes(left, right, sum); }
};

// Elements as the accumulation type, and back.
inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(bfloat16 x) { return to_float(x); }
#if defined(__F16C__)
inline float widen(float16 x) { return _cvtsh_ss(x.bits); }
#else
inline float widen(float16 x) { return to_float(x); }
#endif

inline void narrow(double x, double* out) { *out = x; }
inline void narrow(float x, float* out) { *out = x; }
inline void narrow(double x, float* out) { *out = static_cast<float>(x); }
inline void narrow(float x, double* out) { *out = x; }
inline void narrow(float x, bfloat16* out) { *out = to_bfloat16(x); }
inline void narrow(double x, bfloat16* out) { *out = to_bfloat16(static_cast<float>(x)); }
inline void narrow(double x, float16* out) { *out = to_float16(static_cast<float>(x)); }
#if defined(__F16C__)
inline void narrow(float x, float16* out) { out->bits = _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
#else
inline void narrow(float x, float16* out) { *out = to_float16(x); }
#endif

}  // namespace fusionops::cpu::FUSIONOPS_ISA
