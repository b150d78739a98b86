// One vector type per instruction set: the only file with intrinsics.
//
// Every file in csrc/cpu is compiled once per instruction set, with FUSIONOPS_ISA naming the
// namespace, so `Vec` is another type in each. What is not AVX2 or AVX-512 is GCC's portable
// vector extension: SSE2 on baseline x86-64, NEON on aarch64.
//
// fused_multiply_add is one instruction where the processor has it. Whichever it is, it is the
// same for every tile shape, which is what keeps a score's bits the same in all of them.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/half.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef FUSIONOPS_ISA
#error "csrc/cpu is compiled once per instruction set: see fusionops_add_isa in CMakeLists.txt"
#endif

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
struct Vec;

#if defined(__AVX512F__)

inline constexpr int kRegisters = 32;

template <>
struct Vec<float> {
  static constexpr int kSize = 16;
  __m512 v;
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend std::uint32_t greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
};

template <>
struct Vec<double> {
  static constexpr int kSize = 8;
  __m512d v;
  static Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static Vec broadcast(double x) { return {_mm512_set1_pd(x)}; }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_pd(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_pd(a.v, b.v)}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  friend std::uint32_t greater(Vec a, Vec b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ); }
};

#elif defined(__AVX2__) && defined(__FMA__)

inline constexpr int kRegisters = 16;

template <>
struct Vec<float> {
  static constexpr int kSize = 8;
  __m256 v;
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend std::uint32_t greater(Vec a, Vec b) {
    return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)));
  }
};

template <>
struct Vec<double> {
  static constexpr int kSize = 4;
  __m256d v;
  static Vec load(const double* p) { return {_mm256_loadu_pd(p)}; }
  static Vec broadcast(double x) { return {_mm256_set1_pd(x)}; }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_pd(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_pd(a.v, b.v)}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
  friend std::uint32_t greater(Vec a, Vec b) {
    return static_cast<std::uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd(a.v, b.v, _CMP_GT_OQ)));
  }
};

#else

inline constexpr int kRegisters = 16;

template <class T>
struct Vec {
  static constexpr int kSize = 16 / sizeof(T);
  typedef T Native __attribute__((vector_size(16)));
  Native v;
  static Vec load(const T* p) {
    Vec x;
    std::memcpy(&x.v, p, sizeof(x.v));
    return x;
  }
  static Vec broadcast(T x) { return {x - Native{}}; }
  void store(T* p) const { std::memcpy(p, &v, sizeof(v)); }
  friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
  friend std::uint32_t greater(Vec a, Vec b) {
    const auto mask = a.v > b.v;
    std::uint32_t bits = 0;
    for (int i = 0; i < kSize; ++i) bits |= static_cast<std::uint32_t>(mask[i] & 1) << i;
    return bits;
  }
};

#endif

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
