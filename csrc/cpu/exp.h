// exp of a vector, the same code on every instruction set.
//
// x = n ln 2 + r with |r| <= ln(2) / 2, exp(x) = 2^n exp(r), and exp(r) a polynomial. Adding the
// magic number rounds x / ln 2 to an integer and leaves it, with the exponent's bias, in the lowest
// bits of the mantissa, from where one shift makes 2^n.
//
// For x <= 88 (float) or 709 (double); NaN stays NaN, and what would be below the smallest normal
// number, -inf included, is 0. Within 2 ulp; the largest error seen is 0.94 ulp in float and 0.99
// in double (AVX-512).
#pragma once

#include "cpu/simd.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kLowest = -88.0F;
  static constexpr float kMagic = 0x1p23F + 127;
  static constexpr float kHigh = 0.693359375F, kLow = -2.12194440e-4F;  // ln 2 in two parts
  // (exp(r) - 1 - r) / r^2, interpolated at Chebyshev's nodes: relative error 1.0e-8.
  static constexpr float kSeries[] = {0.5F, 0.16666576846F, 0.041666554601F, 0.0083632029716F,
                                      0.0013926202586F};
};

template <>
struct ExpConstants<double> {
  static constexpr double kLowest = -709.0;
  static constexpr double kMagic = 0x1p52 + 1023;
  static constexpr double kHigh = 6.93145751953125e-1, kLow = 1.42860682030941723212e-6;
  // The same, relative error 1.7e-17.
  static constexpr double kSeries[] = {
      0.5,
      0.16666666666666667456,
      0.041666666666623991516,
      0.0083333333333300513464,
      0.0013888888917281793308,
      0.00019841269863105968748,
      0.000024801521190217727651,
      2.7557268378684192873e-6,
      2.7620138719733995569e-7,
      2.5100424157005066788e-8,
  };
};

template <class T>
[[gnu::always_inline]] inline Vec<T> exponential(Vec<T> x) {
  using V = Vec<T>;
  using C = ExpConstants<T>;
  constexpr int kTerms = sizeof(C::kSeries) / sizeof(T);
  const V magic = V::broadcast(C::kMagic);
  x = maximum(V::broadcast(C::kLowest), x);
  const V shifted = fused_multiply_add(x, V::broadcast(T(1.4426950408889634074)), magic);
  const V n = shifted - magic;
  V r = fused_multiply_add(n, V::broadcast(-C::kHigh), x);
  r = fused_multiply_add(n, V::broadcast(-C::kLow), r);
  V series = V::broadcast(C::kSeries[kTerms - 1]);
#pragma GCC unroll 16
  for (int i = kTerms - 2; i >= 0; --i) {
    series = fused_multiply_add(series, r, V::broadcast(C::kSeries[i]));
  }
  series = fused_multiply_add(series, r, V::broadcast(1));
  series = fused_multiply_add(series, r, V::broadcast(1));
  return series * shift_to_exponent(shifted);
}

template <class T>
inline T sum_of_lanes(Vec<T> v) {
  alignas(64) T lanes[Vec<T>::kSize];
  v.store(lanes);
  T sum = 0;
  for (const T x : lanes) sum += x;
  return sum;
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
