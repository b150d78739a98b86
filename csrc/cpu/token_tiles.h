// The two products of attention over few tokens, on rows that stand where they stand in memory.
//
//   dots:     out[m][q] = left[q] . right[m]
//   combine:  out[i] = sum_j weight[i, j] * rows[j]
//
// Both are vectorised along the features. A dot product's vector of partial sums is one of the
// kSize of a tile, which one tree of shuffles adds up together; the tile shares every load among
// its rows. Rows are whole vectors long: HeadRows sees to that.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/simd.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
using RowPointers = const T* const*;

// kLeft * kRight dot products, at most kSize: left[i] . right[j] is lane j * kLeft + i. Pointers
// beyond the rows there are name any row that can be read.
template <int kLeft, int kRight, class T>
[[gnu::always_inline]] inline Vec<T> dot_tile(const T* const (&left)[kLeft],
                                              const T* const (&right)[kRight], std::int64_t width) {
  using V = Vec<T>;
  V sums[V::kSize];
#pragma GCC unroll 16
  for (int i = 0; i < V::kSize; ++i) sums[i] = V::broadcast(0);
  for (std::int64_t d = 0; d < width; d += V::kSize) {
    V each[kLeft];
#pragma GCC unroll 4
    for (int i = 0; i < kLeft; ++i) each[i] = V::load(left[i] + d);
#pragma GCC unroll 16
    for (int j = 0; j < kRight; ++j) {
      const V other = V::load(right[j] + d);
#pragma GCC unroll 4
      for (int i = 0; i < kLeft; ++i) {
        sums[j * kLeft + i] = fused_multiply_add(each[i], other, sums[j * kLeft + i]);
      }
    }
  }
  return sums_of_lanes(sums);
}

// Left rows of a tile: how many products beyond the last `dots` may write.
template <class T>
inline constexpr int kTileRows = std::min(4, Vec<T>::kSize);

// What the products of dots are made of, and where they go.
template <class T>
struct DotRows {
  RowPointers<T> left;
  std::int64_t lefts;
  RowPointers<T> right;
  std::int64_t rights, width;
  T scale;
  T* out;
  std::int64_t stride;
};

// The products of all left rows with right rows [m, m + kRight).
template <int kLeft, int kRight, class T>
void dot_columns(const DotRows<T>& rows, std::int64_t m) {
  const T* columns[kRight];
  for (int j = 0; j < kRight; ++j) columns[j] = rows.right[std::min(m + j, rows.rights - 1)];
  const auto count = std::min<std::int64_t>(kRight, rows.rights - m);
  for (std::int64_t q = 0; q < rows.lefts; q += kLeft) {
    const T* each[kLeft];
    for (int i = 0; i < kLeft; ++i) each[i] = rows.left[std::min(q + i, rows.lefts - 1)];
    alignas(64) T sums[Vec<T>::kSize];
    (dot_tile<kLeft, kRight, T>(each, columns, rows.width) * Vec<T>::broadcast(rows.scale))
        .store(sums);
    for (std::int64_t j = 0; j < count; ++j) {
      std::copy_n(sums + j * kLeft, kLeft, rows.out + (m + j) * rows.stride + q);
    }
  }
}

// out[m * stride + q] = scale * (left[q] . right[m]). Up to kTileRows - 1 elements behind a row of
// out are overwritten: a copy of known length is one instruction.
template <class T>
void dots(const DotRows<T>& rows) {
  constexpr int kSize = Vec<T>::kSize;
  if (rows.lefts > 1) {
    constexpr int kRight = kSize / kTileRows<T>;
    for (std::int64_t m = 0; m < rows.rights; m += kRight) {
      dot_columns<kTileRows<T>, kRight, T>(rows, m);
    }
    return;
  }
  for (std::int64_t m = 0; m < rows.rights;) {
    if (rows.rights - m > kSize / 2) {
      dot_columns<1, kSize, T>(rows, m);
      m += kSize;
    } else {  // eight sums keep the multipliers busy, and their pointers in registers
      dot_columns<1, kSize / 2, T>(rows, m);
      m += kSize / 2;
    }
  }
}

// Rows that are added up, and the weight of row j in sum i: weight[i * out_stride + j * in_stride].
template <class T>
struct Summands {
  const T* weight;
  std::int64_t out_stride, in_stride;
  RowPointers<T> rows;
  std::int64_t count;
};

template <int kRows, int kVectors, bool kStream, class T, class... Terms>
[[gnu::always_inline]] inline void combine_tile(T* const (&out)[kRows], std::int64_t first,
                                                std::int64_t d, const Terms&... terms) {
  using V = Vec<T>;
  V sums[kRows][kVectors];
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) sums[i][v] = V::broadcast(0);
  }
  const auto add = [&](const Summands<T>& term) {
    const T* weight = term.weight + first * term.out_stride;
    for (std::int64_t j = 0; j < term.count; ++j, weight += term.in_stride) {
      const T* row = term.rows[j] + d;
      V part[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) part[v] = V::load(row + v * V::kSize);
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        const V factor = V::broadcast(weight[i * term.out_stride]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          sums[i][v] = fused_multiply_add(factor, part[v], sums[i][v]);
        }
      }
    }
  };
  (add(terms), ...);
#pragma GCC unroll 4
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      T* place = out[i] + d + v * V::kSize;
      kStream ? sums[i][v].stream(place) : sums[i][v].store(place);
    }
  }
}

template <int kRows, bool kStream, class T, class... Terms>
void combine_rows(T* const* out, std::int64_t first, std::int64_t width, const Terms&... terms) {
  // A single row needs the more sums side by side, as each waits for its last addition.
  constexpr int kVectors = (kRegisters == 32 ? 4 : 2) * (kRows == 1 ? 2 : 1);
  constexpr std::int64_t kSize = Vec<T>::kSize;
  T* rows[kRows];
  std::copy_n(out + first, kRows, rows);
  std::int64_t d = 0;
  for (; d + kVectors * kSize <= width; d += kVectors * kSize) {
    combine_tile<kRows, kVectors, kStream, T>(rows, first, d, terms...);
  }
  for (; d + 2 * kSize <= width; d += 2 * kSize) {
    combine_tile<kRows, 2, kStream, T>(rows, first, d, terms...);
  }
  for (; d < width; d += kSize) {
    combine_tile<kRows, 1, kStream, T>(rows, first, d, terms...);
  }
}

// out[i] = the sum of all terms, for i below `count`; written past the caches if kStream.
template <bool kStream, class T, class... Terms>
void combine(T* const* out, std::int64_t count, std::int64_t width, const Terms&... terms) {
  std::int64_t i = 0;
  for (; i + 4 <= count; i += 4) combine_rows<4, kStream, T>(out, i, width, terms...);
  for (; i + 2 <= count; i += 2) combine_rows<2, kStream, T>(out, i, width, terms...);
  for (; i < count; ++i) combine_rows<1, kStream, T>(out, i, width, terms...);
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
