// Vectors by GCC's and clang's extension: SSE2 on baseline x86-64, NEON on aarch64: included by
// simd.h, whose rules it follows.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/half.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
struct Vec;

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

}  // namespace fusionops::cpu::FUSIONOPS_ISA
