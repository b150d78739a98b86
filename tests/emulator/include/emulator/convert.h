// cvt, setp and what else goes from one type to another.
#pragma once

#include <limits>

#include "real.h"

namespace emulator {

template <class F>
inline F to_integral(F x, Rounding rounding) {
  switch (rounding) {
    case Rounding::kNearest:
      return std::nearbyint(x);
    case Rounding::kZero:
      return std::trunc(x);
    case Rounding::kDown:
      return std::floor(x);
    default:
      return std::ceil(x);
  }
}

// `near` was rounded to nearest from `exact`; move it one step where the direction asks for it.
template <class Exact>
inline float redirect(float near, Exact exact, Rounding rounding) {
  const bool above = static_cast<long double>(near) > static_cast<long double>(exact);
  const bool below = static_cast<long double>(near) < static_cast<long double>(exact);
  const bool negative = exact < 0;
  const bool down = rounding == Rounding::kDown || (rounding == Rounding::kZero && !negative);
  const bool up = rounding == Rounding::kUp || (rounding == Rounding::kZero && negative);
  if (down && above) return std::nextafter(near, -INFINITY);
  if (up && below) return std::nextafter(near, INFINITY);
  return near;
}

template <class H>
inline H half_to_zero(float x) {
  H h(x);
  if (std::fabs(static_cast<float>(h)) > std::fabs(x)) {
    uint16_t bits;
    std::memcpy(&bits, &h, sizeof bits);
    --bits;
    std::memcpy(&h, &bits, sizeof bits);
  }
  return h;
}

template <class D, class S>
inline D real_to_real(S s, Rounding rounding) {
  if constexpr (std::is_same_v<D, float> && std::is_same_v<S, double>) {
    return redirect(static_cast<float>(s), s, rounding);
  } else if constexpr (is_half<D> && !is_half<S>) {
    if (rounding == Rounding::kZero) return half_to_zero<D>(static_cast<float>(s));
    return D(s);
  } else {
    return D(static_cast<double>(wide(s)));
  }
}

template <class D, class S>
inline D real_to_int(S s, Rounding rounding) {
  const double x = wide(s);
  if (std::isnan(x)) return sizeof(D) == 8 ? static_cast<D>(1ull << 63) : 0;
  const double rounded = to_integral(x, rounding);
  constexpr D low = std::numeric_limits<D>::lowest(), high = std::numeric_limits<D>::max();
  if (rounded >= static_cast<double>(high)) return high;
  if (rounded <= static_cast<double>(low)) return low;
  return static_cast<D>(rounded);
}

template <class D, class S>
inline D convert(S s, Rounding rounding = Rounding::kNearest) {
  if constexpr (is_real<D> && is_real<S>) {
    return real_to_real<D>(s, rounding);
  } else if constexpr (std::is_same_v<D, float>) {
    return redirect(static_cast<float>(s), s, rounding);
  } else if constexpr (is_real<D>) {
    return D(static_cast<double>(s));
  } else if constexpr (is_real<S>) {
    return real_to_int<D>(s, rounding);
  } else {
    return static_cast<D>(s);
  }
}

// cvt.rni.f32.f32 and its like: a whole number of the same type.
template <class T>
inline T round_to_integral(T x, Rounding rounding) {
  return T(to_integral(wide(x), rounding));
}

template <class D, class S>
inline D convert_saturated(S s, Rounding rounding) {
  if constexpr (is_real<D>) {
    return saturate(convert<D>(s, rounding));
  } else if constexpr (is_real<S>) {
    return convert<D>(s, rounding);
  } else {
    const __int128 x = s;
    const __int128 low = std::numeric_limits<D>::lowest(), high = std::numeric_limits<D>::max();
    return static_cast<D>(x < low ? low : x > high ? high : x);
  }
}

template <class H>
inline Pair<H> pack(float high, float low, Rounding rounding) {
  return {convert<H>(low, rounding), convert<H>(high, rounding)};
}

inline uint32_t to_tf32(uint32_t bits, bool ties_away) {
  if ((bits & 0x7fffffff) >= 0x7f800000) return bits;
  return (bits + (ties_away ? 0x1000u : 0xfffu + (bits >> 13 & 1))) & 0xffffe000u;
}

enum class Compare {
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  lo,
  ls,
  hi,
  hs,
  equ,
  neu,
  ltu,
  leu,
  gtu,
  geu,
  num,
  nan
};

// Comparisons with u at the end (of real types) hold when an operand is NaN, the others do not.
template <class T>
inline bool compare(Compare how, T x, T y) {
  const auto a = wide(x), b = wide(y);
  const bool nan = is_nan(x) || is_nan(y);
  switch (how) {
    case Compare::eq:
      return a == b;
    case Compare::ne:
      return a != b && !nan;
    case Compare::lt:
    case Compare::lo:
      return a < b;
    case Compare::le:
    case Compare::ls:
      return a <= b;
    case Compare::gt:
    case Compare::hi:
      return a > b;
    case Compare::ge:
    case Compare::hs:
      return a >= b;
    case Compare::equ:
      return nan || a == b;
    case Compare::neu:
      return nan || a != b;
    case Compare::ltu:
      return nan || a < b;
    case Compare::leu:
      return nan || a <= b;
    case Compare::gtu:
      return nan || a > b;
    case Compare::geu:
      return nan || a >= b;
    case Compare::num:
      return !nan;
    default:
      return nan;
  }
}

}  // namespace emulator
