// Vectors of AVX2: included by simd.h, whose rules it follows.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/half.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
struct Vec;

inline constexpr int kRegisters = 16;

template <>
struct Vec<float> {
  static constexpr int kSize = 8;
  __m256 v;
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void stream(float* p) const { _mm256_stream_ps(p, v); }
  void store_first(float* p, int lanes) const {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), lane), v);
  }
  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec shift_to_exponent(Vec a) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23))};
  }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend Vec maximum(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
  friend float largest(Vec a) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
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
  void stream(double* p) const { _mm256_stream_pd(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_pd(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_pd(a.v, b.v)}; }
  friend Vec maximum(Vec a, Vec b) { return {_mm256_max_pd(a.v, b.v)}; }
  friend Vec shift_to_exponent(Vec a) {
    return {_mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a.v), 52))};
  }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_pd(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_pd(a.v, b.v)}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
  friend double largest(Vec a) {
    const __m128d two = _mm_max_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
    return _mm_cvtsd_f64(_mm_max_sd(two, _mm_unpackhi_pd(two, two)));
  }
  friend std::uint32_t greater(Vec a, Vec b) {
    return static_cast<std::uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd(a.v, b.v, _CMP_GT_OQ)));
  }
};

template <>
struct Vec<std::int32_t> {
  static constexpr int kSize = 8;
  __m256i v;
  static Vec load(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
  static Vec broadcast(std::int32_t x) { return {_mm256_set1_epi32(x)}; }
  void store(std::int32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_epi32(a.v, b.v)}; }
  friend Vec<float> to_float(Vec a) { return {_mm256_cvtepi32_ps(a.v)}; }
  friend Vec dot_bytes(Vec left, Vec right, Vec sum) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(right.v, _mm256_set1_epi32(0x00ff00ff)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(left.v, 8), 8));
    const __m256i odd =
        _mm256_madd_epi16(_mm256_srli_epi16(right.v, 8), _mm256_srai_epi16(left.v, 8));
    return {_mm256_add_epi32(sum.v, _mm256_add_epi32(even, odd))};
  }
};

inline Vec<float> dot_pairs(Vec<std::int32_t> left, Vec<std::int32_t> right, Vec<float> sum) {
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000U));
  const __m256 low = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(left.v, 16)),
                                     _mm256_castsi256_ps(_mm256_slli_epi32(right.v, 16)), sum.v);
  return {_mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(left.v, high)),
                          _mm256_castsi256_ps(_mm256_and_si256(right.v, high)), low)};
}

inline void transpose(Vec<float> (&rows)[8]) {
  __m256 a[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  __m256 b[8];
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

inline Vec<float> sums_of_lanes(const Vec<float> (&rows)[8]) {
  __m256 quads[2];
  for (int i = 0; i < 2; ++i) {
    const auto pairs = [&](int r) {
      return _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(rows[r].v, rows[r + 1].v),
                                            _mm256_unpackhi_ps(rows[r].v, rows[r + 1].v)));
    };
    const __m256d first = pairs(4 * i), second = pairs(4 * i + 2);
    quads[i] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(first, second)),
                             _mm256_castpd_ps(_mm256_unpackhi_pd(first, second)));
  }
  return {_mm256_add_ps(_mm256_permute2f128_ps(quads[0], quads[1], 0x20),
                        _mm256_permute2f128_ps(quads[0], quads[1], 0x31))};
}

inline Vec<double> sums_of_lanes(const Vec<double> (&rows)[4]) {
  const auto pairs = [&](int r) {
    return _mm256_add_pd(_mm256_unpacklo_pd(rows[r].v, rows[r + 1].v),
                         _mm256_unpackhi_pd(rows[r].v, rows[r + 1].v));
  };
  const __m256d first = pairs(0), second = pairs(2);
  return {_mm256_add_pd(_mm256_permute2f128_pd(first, second, 0x20),
                        _mm256_permute2f128_pd(first, second, 0x31))};
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
