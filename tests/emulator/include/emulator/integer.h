// Integer and bit instructions; shifts past the width and divisions by zero are defined in PTX.
#pragma once

#include <algorithm>

#include "values.h"

namespace emulator {

template <class T>
constexpr uint32_t kWidth = 8 * sizeof(T);

template <class T>
inline T mul_high(T a, T b) {
  using Wide = std::conditional_t<std::is_signed_v<T>, __int128, u128>;
  return static_cast<T>((static_cast<Wide>(a) * static_cast<Wide>(b)) >> kWidth<T>);
}

template <class T>
inline T int_div(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return static_cast<T>(-static_cast<std::make_unsigned_t<T>>(a));
  }
  return static_cast<T>(a / b);
}

template <class T>
inline T int_rem(T a, T b) {
  if (b == 0) return a;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return 0;
  }
  return static_cast<T>(a % b);
}

// a + b + carry, a - b - carry: the sum, and the carry for the next digit.
template <class U>
inline U add_carry(U a, U b, bool carry_in, bool& carry) {
  const u128 sum = static_cast<u128>(a) + b + carry_in;
  carry = (sum >> kWidth<U>)&1;
  return static_cast<U>(sum);
}

template <class U>
inline U sub_carry(U a, U b, bool carry_in, bool& carry) {
  const u128 sum = static_cast<u128>(a) - b - carry_in;
  carry = (sum >> kWidth<U>)&1;
  return static_cast<U>(sum);
}

template <class U>
inline U shift_left(U a, uint32_t n) {
  return n >= kWidth<U> ? 0 : static_cast<U>(a << n);
}

template <class T>
inline T shift_right(T a, uint32_t n) {
  if (n < kWidth<T>) return static_cast<T>(a >> n);
  return a < T(0) ? static_cast<T>(-1) : 0;
}

// The upper (left) or lower half of b:a shifted.
inline uint32_t funnel(bool left, bool wrap, uint32_t a, uint32_t b, uint32_t c) {
  const uint32_t n = wrap ? c & 31 : std::min(c, 32u);
  const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
  return static_cast<uint32_t>(left ? (both << n) >> 32 : both >> n);
}

template <class T>
inline T extract_bits(T a, uint32_t position, uint32_t length) {
  using U = std::make_unsigned_t<T>;
  position &= 255;
  length &= 255;
  if (length == 0) return 0;
  const uint32_t sign_at = std::min(position + length - 1, kWidth<T> - 1);
  const bool negative = std::is_signed_v<T> && (static_cast<U>(a) >> sign_at & 1);
  U bits = position >= kWidth<T> ? 0 : static_cast<U>(a) >> position;
  const uint32_t kept = std::min(length, position >= kWidth<T> ? 0 : kWidth<T> - position);
  if (kept < kWidth<T>) {
    const U mask = (U(1) << kept) - 1;
    bits = negative ? bits | ~mask : bits & mask;
  }
  return static_cast<T>(bits);
}

template <class U>
inline U insert_bits(U a, U b, uint32_t position, uint32_t length) {
  position &= 255;
  length &= 255;
  if (length == 0 || position >= kWidth<U>) return b;
  const U mask = length >= kWidth<U> ? static_cast<U>(~U(0)) : (U(1) << length) - 1;
  return (b & ~(mask << position)) | ((a & mask) << position);
}

template <class T>
inline uint32_t leading_zeros(T a) {
  const uint64_t bits = static_cast<std::make_unsigned_t<T>>(a);
  return bits == 0 ? kWidth<T> : __builtin_clzll(bits) - (64 - kWidth<T>);
}

template <class T>
inline uint32_t find_leading(T a, bool shift_amount) {
  if (std::is_signed_v<T> && a < 0) a = static_cast<T>(~a);
  if (a == 0) return 0xffffffffu;
  const uint32_t position = kWidth<T> - 1 - leading_zeros(a);
  return shift_amount ? kWidth<T> - 1 - position : position;
}

template <class U>
inline U reverse_bits(U a) {
  U reversed = 0;
  for (uint32_t i = 0; i < kWidth<U>; ++i) reversed |= (a >> i & U(1)) << (kWidth<U> - 1 - i);
  return reversed;
}

inline uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> 4 * i & 15;
    uint32_t byte = both >> 8 * (choice & 7) & 255;
    if (choice & 8) byte = byte & 128 ? 255 : 0;  // the sign, eight times
    result |= byte << 8 * i;
  }
  return result;
}

inline uint32_t logic3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t result = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    if (table >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  }
  return result;
}

template <class A, class B>
inline uint32_t dot4(uint32_t a, uint32_t b, uint32_t c) {
  int64_t sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<A>(a >> 8 * i) * static_cast<B>(b >> 8 * i);
  return c + static_cast<uint32_t>(sum);
}

inline uint32_t bit_mask(uint32_t position, uint32_t length, bool clamp) {
  if (!clamp) position &= 31, length &= 31;
  if (position >= 32 || length == 0) return 0;
  const uint64_t ones = length >= 32 ? 0xffffffffull : (1ull << length) - 1;
  return static_cast<uint32_t>(ones << position);
}

template <class T>
inline T absolute_difference(T a, T b) {
  return a > b ? a - b : b - a;
}

}  // namespace emulator
