// The score tile: a block of rows of one side times a block of rows of the other, in registers.
//
// It computes out[r][c] = sum_d a[d][r] * b[d][c] from two packed panels. The accumulators fill
// the register file (12 x 2 vectors with 32 registers, 6 x 2 with 16); each step of d reads two
// vectors of b and broadcasts each a, so the bound is the FMA units, not the loads.
//
// A sum runs over d in ascending order, in blocks of kBlock that are then added in order. It does
// not depend on the tile's height, on the position in the tile, or on what else is in it: a score
// has the same bits wherever it is computed.
#pragma once

#include <cstdint>

#include "cpu/simd.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
struct Tile {
  static constexpr int kVectors = 2;
  static constexpr int kWidth = kVectors * Vec<T>::kSize;    // columns: rows of the packed b side
  static constexpr int kHeight = kRegisters == 32 ? 12 : 6;  // rows: rows of the packed a side
  // Long sums are cut here: a chain of 256 roundings, not one of D.
  static constexpr std::int64_t kBlock = 256;
};

template <int kRows, class T>
inline void multiply_rows(const T* a, const T* b, std::int64_t depth, T* out) {
  using V = Vec<T>;
  constexpr int kVectors = Tile<T>::kVectors, kWidth = Tile<T>::kWidth, kHeight = Tile<T>::kHeight;
  for (std::int64_t begin = 0; begin == 0 || begin < depth; begin += Tile<T>::kBlock) {
    V sum[kRows][kVectors];
    for (auto& row : sum) {
      for (auto& v : row) v = V::broadcast(T(0));
    }
    const std::int64_t end = depth - begin < Tile<T>::kBlock ? depth : begin + Tile<T>::kBlock;
    for (std::int64_t d = begin; d < end; ++d) {
      const T* bd = b + d * kWidth;
      const T* ad = a + d * kHeight;
      V right[kVectors];
      for (int j = 0; j < kVectors; ++j) right[j] = V::load(bd + j * V::kSize);
      for (int r = 0; r < kRows; ++r) {
        const V left = V::broadcast(ad[r]);
        for (int j = 0; j < kVectors; ++j) {
          sum[r][j] = fused_multiply_add(left, right[j], sum[r][j]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < kVectors; ++j) {
        T* p = out + r * kWidth + j * V::kSize;
        (begin == 0 ? sum[r][j] : V::load(p) + sum[r][j]).store(p);
      }
    }
  }
}

// out [kHeight][kWidth]; only the first `rows` rows are wanted, the rest is left undefined.
template <class T>
inline void multiply(const T* a, const T* b, std::int64_t depth, int rows, T* out) {
  if (rows <= 1) return multiply_rows<1>(a, b, depth, out);
  if (rows <= 2) return multiply_rows<2>(a, b, depth, out);
  if (rows <= 4) return multiply_rows<4>(a, b, depth, out);
  if constexpr (Tile<T>::kHeight > 6) {
    if (rows <= 6) return multiply_rows<6>(a, b, depth, out);
    if (rows <= 8) return multiply_rows<8>(a, b, depth, out);
  }
  multiply_rows<Tile<T>::kHeight>(a, b, depth, out);
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

// How many rows of a side to pack at a time: whole panels that together fill about `bytes`.
template <class T>
inline std::int64_t rows_per_block(std::int64_t depth, std::int64_t bytes, int panel,
                                   std::int64_t most) {
  const std::int64_t row = static_cast<std::int64_t>(sizeof(T)) * (depth > 0 ? depth : 1);
  const std::int64_t rows = bytes / row / panel * panel;
  return rows < panel ? panel : (rows > most ? most / panel * panel : rows);
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
