// Registers hold raw bits; here is what the types of PTX make of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace emulator {

using u128 = unsigned __int128;
using f16 = _Float16;

// The nearest float whose last bit is odd where it is not exact: rounding it once more, to a
// shorter type, gives what one rounding of `x` would.
inline float to_odd(double x) {
  float f = static_cast<float>(x);
  if (static_cast<double>(f) == x || f != f) return f;
  if (std::fabs(static_cast<double>(f)) > std::fabs(x)) f = std::nextafter(f, 0.0f);
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  bits |= 1;
  std::memcpy(&f, &bits, sizeof bits);
  return f;
}

struct bf16 {
  uint16_t bits;

  bf16() = default;
  bf16(float x) {
    uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    bits = x != x ? 0x7fff : static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  explicit bf16(double x) : bf16(to_odd(x)) {}
  operator float() const {
    const uint32_t u = static_cast<uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &u, sizeof x);
    return x;
  }
};

template <class H>
struct Pair {
  H low, high;
};
using f16x2 = Pair<f16>;
using bf16x2 = Pair<bf16>;

template <class T>
constexpr bool is_half = std::is_same_v<T, f16> || std::is_same_v<T, bf16>;
template <class T>
constexpr bool is_pair = std::is_same_v<T, f16x2> || std::is_same_v<T, bf16x2>;
template <class T>
constexpr bool is_real = std::is_floating_point_v<T> || is_half<T>;

// The bits of a register (or a number in the text) as a T.
template <class T, class Bits>
inline T as(Bits bits) {
  if constexpr (is_real<T> || is_pair<T>) {
    static_assert(sizeof(Bits) >= sizeof(T));
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  } else {
    return static_cast<T>(bits);
  }
}

template <class Register, class T>
inline void put(Register& to, T value) {
  if constexpr (is_real<T> || is_pair<T>) {
    static_assert(sizeof(Register) >= sizeof(T));
    Register bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    to = bits;
  } else {
    to = static_cast<Register>(value);
  }
}

// What arithmetic is done in: wide enough that a half is rounded once.
template <class T>
inline auto wide(T x) {
  if constexpr (is_half<T>) {
    return static_cast<double>(static_cast<float>(x));
  } else {
    return x;
  }
}

template <class T>
inline bool is_nan(T x) {
  if constexpr (is_real<T>) {
    return std::isnan(wide(x));
  } else {
    return false;
  }
}

template <class T, class F>
inline T each(T a, T b, F&& f) {
  if constexpr (is_pair<T>) {
    return {f(a.low, b.low), f(a.high, b.high)};
  } else {
    return f(a, b);
  }
}

template <class T, class F>
inline T each(T a, F&& f) {
  if constexpr (is_pair<T>) {
    return {f(a.low), f(a.high)};
  } else {
    return f(a);
  }
}

}  // namespace emulator
