// Vectors of AVX-512: included by simd.h, whose rules it follows.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/half.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
struct Vec;

inline constexpr int kRegisters = 32;

template <>
struct Vec<float> {
  static constexpr int kSize = 16;
  __m512 v;
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  void store_first(float* p, int lanes) const {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << lanes) - 1), v);
  }
  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec shift_to_exponent(Vec a) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23))};
  }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend Vec maximum(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
  friend float largest(Vec a) { return _mm512_reduce_max_ps(a.v); }
  friend std::uint32_t greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
};

template <>
struct Vec<double> {
  static constexpr int kSize = 8;
  __m512d v;
  static Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static Vec broadcast(double x) { return {_mm512_set1_pd(x)}; }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  void stream(double* p) const { _mm512_stream_pd(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_pd(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_pd(a.v, b.v)}; }
  friend Vec maximum(Vec a, Vec b) { return {_mm512_max_pd(a.v, b.v)}; }
  friend Vec shift_to_exponent(Vec a) {
    return {_mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a.v), 52))};
  }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_pd(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_pd(a.v, b.v)}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  friend double largest(Vec a) { return _mm512_reduce_max_pd(a.v); }
  friend std::uint32_t greater(Vec a, Vec b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ); }
};

template <>
struct Vec<std::int32_t> {
  static constexpr int kSize = 16;
  __m512i v;
  static Vec load(const void* p) { return {_mm512_loadu_si512(p)}; }
  static Vec broadcast(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
  void store(std::int32_t* p) const { _mm512_storeu_si512(p, v); }
  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_epi32(a.v, b.v)}; }
  friend Vec<float> to_float(Vec a) { return {_mm512_cvtepi32_ps(a.v)}; }
  friend Vec dot_bytes(Vec left, Vec right, Vec sum) {
#if defined(__AVX512VNNI__)
    return {_mm512_dpbusd_epi32(sum.v, right.v, left.v)};
#else
    // Even and odd bytes as 16-bit numbers: vpmaddubsw would saturate.
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(right.v, _mm512_set1_epi32(0x00ff00ff)),
                                           _mm512_srai_epi16(_mm512_slli_epi16(left.v, 8), 8));
    const __m512i odd =
        _mm512_madd_epi16(_mm512_srli_epi16(right.v, 8), _mm512_srai_epi16(left.v, 8));
    return {_mm512_add_epi32(sum.v, _mm512_add_epi32(even, odd))};
#endif
  }
};

// Pairs of bfloat16 in 32-bit words, the first of a pair in the low half.
inline Vec<float> dot_pairs(Vec<std::int32_t> left, Vec<std::int32_t> right, Vec<float> sum) {
#if defined(__AVX512BF16__)
  return {_mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(left.v),
                           reinterpret_cast<__m512bh>(right.v))};
#else
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
  const __m512 low = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(left.v, 16)),
                                     _mm512_castsi512_ps(_mm512_slli_epi32(right.v, 16)), sum.v);
  return {_mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(left.v, high)),
                          _mm512_castsi512_ps(_mm512_and_si512(right.v, high)), low)};
#endif
}

// rows[i] lane j becomes rows[j] lane i, for kSize vectors: 32-bit, 64-bit, then 128-bit blocks.
inline void transpose(Vec<float> (&rows)[16]) {
  __m512 a[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
  }
  __m512 b[16];
  for (int i = 0; i < 16; i += 4) {
    const auto pair = [&](int k) { return _mm512_castps_pd(a[i + k]); };
    b[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(0), pair(2)));
    b[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(0), pair(2)));
    b[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pair(1), pair(3)));
    b[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pair(1), pair(3)));
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 even0 = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
    const __m512 odd0 = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
    const __m512 even1 = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
    const __m512 odd1 = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
    rows[i].v = _mm512_shuffle_f32x4(even0, even1, 0x88);
    rows[i + 4].v = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
    rows[i + 8].v = _mm512_shuffle_f32x4(even0, even1, 0xdd);
    rows[i + 12].v = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
  }
}

// Lane i of the result is the sum of the lanes of rows[i], each added up by the same tree.
inline Vec<float> sums_of_lanes(const Vec<float> (&rows)[16]) {
  __m512 quads[4];  // quads[i], block k: of rows 4i to 4i + 3, lanes 4k to 4k + 3
  for (int i = 0; i < 4; ++i) {
    const auto pairs = [&](int r) {
      return _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(rows[r].v, rows[r + 1].v),
                                            _mm512_unpackhi_ps(rows[r].v, rows[r + 1].v)));
    };
    const __m512d first = pairs(4 * i), second = pairs(4 * i + 2);
    quads[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(first, second)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(first, second)));
  }
  const auto join = [](__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return {join(join(quads[0], quads[1]), join(quads[2], quads[3]))};
}

inline Vec<double> sums_of_lanes(const Vec<double> (&rows)[8]) {
  const auto pairs = [&](int r) {
    return _mm512_add_pd(_mm512_unpacklo_pd(rows[r].v, rows[r + 1].v),
                         _mm512_unpackhi_pd(rows[r].v, rows[r + 1].v));
  };
  const auto join = [](__m512d a, __m512d b) {
    return _mm512_add_pd(_mm512_shuffle_f64x2(a, b, 0x88), _mm512_shuffle_f64x2(a, b, 0xdd));
  };
  return {join(join(pairs(0), pairs(2)), join(pairs(4), pairs(6)))};
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
