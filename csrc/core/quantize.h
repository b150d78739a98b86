// Vectors in reduced precision, and how far scores over them can be from the float32 kernel's.
//
// A user u and an item p are kept as u' and p' with residuals e_u = u - u' and e_p = p - p'. Then
//   |u.p - u'.p'| = |u.e_p + e_u.p'| <= |u| |e_p| + |e_u| |p'|     (Cauchy and Schwarz),
// and the float32 kernel, which has the last word, is within kernel_rounding |u| |p| of u.p.
// Norms are taken in double; what is kept of them as float is rounded up.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/half.h"

namespace fusionops {

enum class Packing : std::uint8_t { float32, bfloat16, int8 };

// One vector's bound: |x|, the larger of its own and its reduced form's, and |x - x'|.
struct Reduction {
  float step = 0;  // x' = step * (what is stored)
  double norm = 0, residual = 0;

  // Outside this range products of floats may vanish or overflow, and no bound is claimed. Inside,
  // the products that vdpbf16ps flushes to zero, D times 2^-126 at most, are far below the rounding
  // of |u| |p| for any D: the least there is 2^-80.
  bool bounded(double scale = 1) const {
    const double factor = std::abs(scale);
    return norm == 0 || (in_range(norm) && residual < kMost &&
                         (scale == 0 || (in_range(factor) && in_range(norm * factor) &&
                                         residual * factor < kMost)));
  }

 private:
  static constexpr double kLeast = 1e-12, kMost = 1e15;
  static bool in_range(double x) { return x > kLeast && x < kMost; }  // false for NaN
};

// A float not below x.
inline float rounded_up(double x) {
  const auto y = static_cast<float>(x);
  return static_cast<double>(y) < x ? std::nextafter(y, std::numeric_limits<float>::infinity()) : y;
}

// The most that the float32 score and the arithmetic on a reduced one can be off, in units of
// |u| |p|: chains of at most 256 products, fused or not, sums of chains, scales and conversions.
inline double kernel_rounding(std::int64_t depth) {
  constexpr double kUnit = 0x1p-24;
  const double chain = static_cast<double>(std::min<std::int64_t>(depth, 256));
  const double chains = static_cast<double>((depth + 255) / 256);
  return 1.01 * kUnit * (2 * chain + chains + 16);
}

namespace detail {

template <class Get, class Put>
Reduction reduce(Get get, std::int64_t depth, float step, Put put) {
  double norm = 0, reduced = 0, residual = 0;
  for (std::int64_t d = 0; d < depth; ++d) {
    const double x = get(d), y = static_cast<double>(step) * put(d, get(d));
    norm += x * x;
    reduced += y * y;
    residual += (x - y) * (x - y);
  }
  // The sums themselves round; one part in 10^9 is more than they can be off.
  constexpr double kSlack = 1 + 1e-9;
  return {step, std::sqrt(std::max(norm, reduced)) * kSlack, std::sqrt(residual) * kSlack};
}

}  // namespace detail

// x as int8 times a step: get(d) is x[d]; put(d, q) takes q in -127..127.
template <class Get, class Put>
Reduction to_int8(Get get, std::int64_t depth, Put put) {
  float largest = 0;
  for (std::int64_t d = 0; d < depth; ++d) {
    largest = std::abs(get(d)) <= largest ? largest : std::abs(get(d));  // NaN is the largest
  }
  const float step = largest / 127;
  // Where 1 / step is not a number, zeros; the residual says so (or is NaN, and bounds nothing).
  const float inverse = 127 / largest;
  const bool usable = step > 0 && std::isfinite(largest) && std::isfinite(inverse);
  return detail::reduce(get, depth, usable ? step : 0, [&](std::int64_t d, float x) {
    const float q = usable ? std::clamp(std::nearbyint(x * inverse), -127.0F, 127.0F) : 0;
    put(d, static_cast<std::int8_t>(q));
    return q;
  });
}

// x as bfloat16.
template <class Get, class Put>
Reduction to_bfloat16(Get get, std::int64_t depth, Put put) {
  return detail::reduce(get, depth, 1, [&](std::int64_t d, float x) {
    const bfloat16 y = to_bfloat16(x);
    put(d, y);
    return to_float(y);
  });
}

}  // namespace fusionops
