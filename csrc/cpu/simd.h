// One vector type per instruction set: the only file with intrinsics.
//
// Every file in csrc/cpu is compiled once per instruction set, with FUSIONOPS_ISA naming the
// namespace, so `Vec` is another type in each. What is not AVX2 or AVX-512 is GCC's portable
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

#elif defined(__AVX2__) && defined(__FMA__)

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
  void stream(T* p) const { store(p); }
  void store_first(T* p, int lanes) const { std::memcpy(p, &v, sizeof(T) * lanes); }
  friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  friend Vec fused_multiply_add(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
  friend Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend Vec shift_to_exponent(Vec a) {
    using Word = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    typedef Word Words __attribute__((vector_size(16)));
    return {(Native)((Words)a.v << (sizeof(T) == 4 ? 23 : 52))};
  }
  friend Vec maximum(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
  friend T largest(Vec a) {
    T most = a.v[0];
    for (int i = 1; i < kSize; ++i) most = a.v[i] > most ? a.v[i] : most;
    return most;
  }
  friend std::uint32_t greater(Vec a, Vec b) {
    const auto mask = a.v > b.v;
    std::uint32_t bits = 0;
    for (int i = 0; i < kSize; ++i) bits |= static_cast<std::uint32_t>(mask[i] & 1) << i;
    return bits;
  }
};

// Sums wrap around, as the instructions' do.
template <>
struct Vec<std::int32_t> {
  static constexpr int kSize = 4;
  typedef std::int32_t Native __attribute__((vector_size(16)));
  typedef std::uint32_t Unsigned __attribute__((vector_size(16)));
  Native v;
  static Vec load(const void* p) {
    Vec x;
    std::memcpy(&x.v, p, sizeof(x.v));
    return x;
  }
  static Vec broadcast(std::int32_t x) { return {x - Native{}}; }
  void store(std::int32_t* p) const { std::memcpy(p, &v, sizeof(v)); }
  friend Vec operator+(Vec a, Vec b) { return {(Native)((Unsigned)a.v + (Unsigned)b.v)}; }
  friend Vec<float> to_float(Vec a) { return {__builtin_convertvector(a.v, Vec<float>::Native)}; }
  friend Vec dot_bytes(Vec left, Vec right, Vec sum) {
    for (int shift = 0; shift < 32; shift += 8) {
      const Native byte = (right.v >> shift) & 0xff;
      sum = sum + Vec{byte * ((Native)((Unsigned)left.v << (24 - shift)) >> 24)};
    }
    return sum;
  }
};

inline Vec<float> dot_pairs(Vec<std::int32_t> left, Vec<std::int32_t> right, Vec<float> sum) {
  typedef std::uint32_t Unsigned __attribute__((vector_size(16)));
  using Float = Vec<float>::Native;
  const Unsigned l = (Unsigned)left.v, r = (Unsigned)right.v;
  sum.v = (Float)(l << 16) * (Float)(r << 16) + sum.v;
  return {(Float)(l & 0xffff0000U) * (Float)(r & 0xffff0000U) + sum.v};
}

inline void transpose(Vec<float> (&rows)[4]) {
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < i; ++j) {
      const float x = rows[i].v[j];
      rows[i].v[j] = rows[j].v[i];
      rows[j].v[i] = x;
    }
  }
}

template <class T>
inline Vec<T> sums_of_lanes(const Vec<T> (&rows)[Vec<T>::kSize]) {
  Vec<T> sums;
  for (int i = 0; i < Vec<T>::kSize; ++i) {
    T lanes[Vec<T>::kSize];
    rows[i].store(lanes);
    for (int width = Vec<T>::kSize / 2; width > 0; width /= 2) {
      for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    sums.v[i] = lanes[0];
  }
  return sums;
}

#endif

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
