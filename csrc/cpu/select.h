// The k largest of a short list of numbers, without branches that depend on them.
//
// Lists of some hundred scores are cut to their k best all the time, and there a partition spends
// itself on mispredicted branches. A bisection over the numbers' bit patterns, ordered like the
// numbers, counts in whole vectors instead, and ends as soon as k are above: after a dozen counts,
// as a rule.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "cpu/simd.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// Numbers as integers of the same order; each is its own inverse.
template <class T>
using Ordered = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
template <class T>
inline Ordered<T> ordered(T x) {
  const auto bits = std::bit_cast<Ordered<T>>(x);
  return bits ^ ((bits >> (8 * sizeof(T) - 1)) & std::numeric_limits<Ordered<T>>::max());
}
template <class T>
inline T number(Ordered<T> key) {
  return std::bit_cast<T>(key ^
                          ((key >> (8 * sizeof(T) - 1)) & std::numeric_limits<Ordered<T>>::max()));
}

// Calls f(i, mask) for every vector from x[i] on, with the numbers in it that are above `low`.
template <class T, class F>
[[gnu::always_inline]] inline void vectors_above(const T* x, std::int64_t size, T low, F&& f) {
  constexpr int kSize = Vec<T>::kSize;
  const auto limit = Vec<T>::broadcast(low);
  std::int64_t i = 0;
  for (; i + kSize <= size; i += kSize) f(i, greater(Vec<T>::load(x + i), limit));
  if (i == size) return;
  T rest[kSize];
  std::fill(std::copy(x + i, x + size, rest), rest + kSize, -std::numeric_limits<T>::infinity());
  f(i, greater(Vec<T>::load(rest), limit));
}

template <class T>
inline std::int64_t count_above(const T* x, std::int64_t size, T low) {
  std::int64_t count = 0;
  vectors_above(x, size, low,
                [&](std::int64_t, std::uint32_t mask) { count += std::popcount(mask); });
  return count;
}

// The k largest are all that are above `high`, and any `ties` of those above `low`, which then are
// equal. Where fewer than k are above -inf, `low` is -inf.
template <class T>
struct Cut {
  T low, high;
  std::int64_t ties;
};

// For 1 <= k <= size and no NaN.
template <class T>
inline Cut<T> cut_largest(const T* x, std::int64_t size, std::int64_t k) {
  auto low = ordered(-std::numeric_limits<T>::infinity());  // k or more are above it,
  auto high = ordered(std::numeric_limits<T>::infinity());  // fewer than k above this one
  std::int64_t above_high = 0;
  while (high - 1 > low) {
    const auto middle = static_cast<Ordered<T>>((low >> 1) + (high >> 1) + (low & high & 1));
    const std::int64_t above = count_above(x, size, number<T>(middle));
    if (above == k) return {number<T>(middle), number<T>(middle), 0};
    if (above > k) {
      low = middle;
    } else {
      high = middle;
      above_high = above;
    }
  }
  return {number<T>(low), number<T>(high), k - above_high};
}

// Calls f(i) for the k largest x[i] in ascending order of i; of equal ones the first are taken. All
// are above -inf, none is NaN. f may overwrite x up to x[i].
template <class T, class F>
inline void for_each_largest(const T* x, std::int64_t size, std::int64_t k, F&& f) {
  if (k >= size) {
    for (std::int64_t i = 0; i < size; ++i) f(i);
    return;
  }
  const Cut<T> cut = cut_largest(x, size, k);
  std::int64_t ties = cut.ties;
  vectors_above(x, size, cut.low, [&](std::int64_t first, std::uint32_t mask) {
    for (; mask != 0; mask &= mask - 1) {
      const std::int64_t i = first + std::countr_zero(mask);
      if (x[i] > cut.high || ties-- > 0) f(i);
    }
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
