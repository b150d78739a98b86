// Floating-point instructions. Subnormals are kept (.ftz too), approximations are exact ones.
#pragma once

#include "values.h"

namespace emulator {

enum class Rounding { kNearest, kZero, kDown, kUp };

// Directed rounding of a * b + c; add is a * 1 + c, and mul keeps the sign of zero with c = -0.
float fused_rounded(float a, float b, float c, Rounding rounding);
double fused_rounded(double a, double b, double c, Rounding rounding);

template <class T>
inline T real_add(T a, T b) {
  return each(a, b, [](auto x, auto y) { return decltype(x)(wide(x) + wide(y)); });
}

template <class T>
inline T real_sub(T a, T b) {
  return each(a, b, [](auto x, auto y) { return decltype(x)(wide(x) - wide(y)); });
}

template <class T>
inline T real_mul(T a, T b) {
  return each(a, b, [](auto x, auto y) { return decltype(x)(wide(x) * wide(y)); });
}

template <class T>
inline T real_div(T a, T b) {
  return each(a, b, [](auto x, auto y) { return decltype(x)(wide(x) / wide(y)); });
}

template <class T>
inline T real_fma(T a, T b, T c) {
  if constexpr (is_pair<T>) {
    return {real_fma(a.low, b.low, c.low), real_fma(a.high, b.high, c.high)};
  } else {
    return T(std::fma(wide(a), wide(b), wide(c)));
  }
}

// Sign bits alone: a NaN keeps its payload.
template <class T>
inline T real_neg(T a) {
  return each(a, [](auto x) {
    using H = decltype(x);
    if constexpr (std::is_same_v<H, bf16>) {
      x.bits ^= 0x8000;
      return x;
    } else {
      return H(-x);
    }
  });
}

template <class T>
inline T real_abs(T a) {
  return each(a, [](auto x) { return decltype(x)(std::fabs(wide(x))); });
}

template <class H>
inline H smaller(H x, H y, bool keep_nan) {
  if (is_nan(x) || is_nan(y)) return is_nan(x) == keep_nan ? x : y;
  const bool first = wide(x) < wide(y) || (wide(x) == wide(y) && std::signbit(wide(x)));
  return first ? x : y;
}

template <class T>
inline T real_min(T a, T b, bool keep_nan) {
  return each(a, b, [=](auto x, auto y) { return smaller(x, y, keep_nan); });
}

template <class T>
inline T real_max(T a, T b, bool keep_nan) {
  return each(
      a, b, [=](auto x, auto y) { return real_neg(smaller(real_neg(x), real_neg(y), keep_nan)); });
}

template <class T>
inline T saturate(T a) {
  return each(a, [](auto x) {
    using H = decltype(x);
    return is_nan(x) || wide(x) < 0 ? H(0.0f) : wide(x) > 1 ? H(1.0f) : x;
  });
}

template <class T, class F>
inline T unary(T a, F f) {
  return each(a, [=](auto x) { return decltype(x)(f(static_cast<double>(wide(x)))); });
}

template <class T>
inline T real_sqrt(T a) {
  return unary(a, [](double x) { return std::sqrt(x); });
}
template <class T>
inline T real_rsqrt(T a) {
  return unary(a, [](double x) { return 1 / std::sqrt(x); });
}
template <class T>
inline T real_rcp(T a) {
  return unary(a, [](double x) { return 1 / x; });
}
template <class T>
inline T real_ex2(T a) {
  return unary(a, [](double x) { return std::exp2(x); });
}
template <class T>
inline T real_lg2(T a) {
  return unary(a, [](double x) { return std::log2(x); });
}
template <class T>
inline T real_sin(T a) {
  return unary(a, [](double x) { return std::sin(x); });
}
template <class T>
inline T real_cos(T a) {
  return unary(a, [](double x) { return std::cos(x); });
}
template <class T>
inline T real_tanh(T a) {
  return unary(a, [](double x) { return std::tanh(x); });
}

// copysign.f32 d, a, b: the sign of a on the magnitude of b.
template <class T>
inline T real_copysign(T a, T b) {
  return std::copysign(b, a);
}

enum class Test { kFinite, kInfinite, kNumber, kNotANumber, kNormal, kSubnormal };

template <class T>
inline bool test_property(Test test, T x) {
  switch (test) {
    case Test::kFinite:
      return std::isfinite(x);
    case Test::kInfinite:
      return std::isinf(x);
    case Test::kNumber:
      return !std::isnan(x);
    case Test::kNotANumber:
      return std::isnan(x);
    case Test::kNormal:
      return std::isnormal(x);
    default:
      return std::fpclassify(x) == FP_SUBNORMAL;
  }
}

}  // namespace emulator
