// The score tile: a block of rows of one side times a block of rows of the other, in registers.
//
// It computes sum[r][c] = sum_d left(d, r) * right[d][c] and hands the accumulators to the caller
// while they are still in registers. They fill the register file (12 x 2 vectors with 32 registers,
// 6 x 2 with 16); each step of d reads two vectors of the right side and broadcasts each left, so
// the bound is the FMA units, not the loads. Everything that is computed from scores is an epilogue
// on this one loop: a store, a threshold test, an exponential.
//
// A sum runs over d in ascending order, in blocks of kBlock that are then added in order. It does
// not depend on the tile's height, on the position in the tile, or on what else is in it: a score
// has the same bits wherever it is computed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cpu/simd.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class E>
struct Tile {
  using Sum = typename Dot<E>::Sum;
  using V = Vec<Sum>;
  static constexpr int kVectors = 2;
  static constexpr int kWidth = kVectors * V::kSize;         // columns: rows of the right side
  static constexpr int kHeight = kRegisters == 32 ? 12 : 6;  // rows: rows of the left side
  static constexpr int kGroup = Dot<E>::kGroup;              // elements of d in one step
  // Long sums are cut here: a chain of 256 roundings, not one of D. In steps.
  static constexpr std::int64_t kBlock = 256;
};

// The left side, read element by element: left(d, r) is at data[d * kStep + r * kRow]. Packed
// panels are [d][kHeight][kGroup]; a row-major matrix can be read where it stands, either way.
template <class E, int kStep, int kRow>
struct LeftSide {
  const typename Dot<E>::Left* data;
  const typename Dot<E>::Left* at(std::int64_t d, int r) const {
    return data + d * kStep + r * kRow;
  }
};

template <class E>
using PackedLeft = LeftSide<E, Tile<E>::kHeight * Tile<E>::kGroup, Tile<E>::kGroup>;

// The right side: kWidth groups side by side for each step, `step` elements apart from the next.
template <class E>
struct RightSide {
  const typename Dot<E>::Right* data;
  std::int64_t step = Tile<E>::kWidth * Tile<E>::kGroup;
};

// Adds steps [begin, end) to sum, which stays in registers.
template <int kRows, class E, class Left, class V = typename Tile<E>::V>
[[gnu::always_inline]] inline void accumulate(const Left& left, const RightSide<E>& right,
                                              std::int64_t begin, std::int64_t end,
                                              V (&sum)[kRows][Tile<E>::kVectors]) {
  using D = Dot<E>;
  constexpr int kVectors = Tile<E>::kVectors;
  const auto* r = right.data + begin * right.step;
  for (std::int64_t d = begin; d < end; ++d, r += right.step) {
    typename D::Word columns[kVectors];
    for (int j = 0; j < kVectors; ++j) columns[j] = D::load(r + j * V::kSize * D::kGroup);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      const auto row = D::broadcast(left.at(d, i));
      for (int j = 0; j < kVectors; ++j) sum[i][j] = D::step(row, columns[j], sum[i][j]);
    }
  }
}

template <int kRows, class E, class Left, class Epilogue>
inline void multiply_rows(const Left& left, const RightSide<E>& right, std::int64_t steps,
                          Epilogue&& epilogue) {
  using V = typename Tile<E>::V;
  constexpr int kVectors = Tile<E>::kVectors;
  constexpr std::int64_t kBlock = Tile<E>::kBlock;
  V sum[kRows][kVectors];
#pragma GCC unroll 12
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kVectors; ++j) sum[i][j] = V::broadcast(0);
  }
  accumulate<kRows, E>(left, right, 0, steps < kBlock ? steps : kBlock, sum);
  for (std::int64_t begin = kBlock; begin < steps; begin += kBlock) {
    // The sum so far waits in memory: the registers are needed for the next block's.
    typename Tile<E>::Sum total[kRows * kVectors * V::kSize];
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < kVectors; ++j) {
        sum[i][j].store(total + (i * kVectors + j) * V::kSize);
        sum[i][j] = V::broadcast(0);
      }
    }
    accumulate<kRows, E>(left, right, begin, steps - begin < kBlock ? steps : begin + kBlock, sum);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < kVectors; ++j) {
        sum[i][j] = V::load(total + (i * kVectors + j) * V::kSize) + sum[i][j];
      }
    }
  }
  epilogue(sum);
}

// Computes a tile of `rows` rows (1 to kHeight) over `steps` groups of d and calls
// epilogue(Vec<Sum> (&sum)[kRows][kVectors]) once, for a kRows >= rows; what the rows beyond hold
// is undefined, but left.at must be readable for them.
//
// Each kRows is compiled on its own, with its epilogue unrolled. Where kTall, sides are expected to
// be many tiles high, so that what the last one wastes is little, and there are only two of them;
// so it is in float64, which is for checks more than for speed.
template <class E, bool kTall = std::is_same_v<E, double>, class Left, class Epilogue>
inline void multiply(const Left& left, const RightSide<E>& right, std::int64_t steps, int rows,
                     Epilogue&& epilogue) {
  constexpr int kHeight = Tile<E>::kHeight;
  if constexpr (kTall) {
    if (rows > kHeight / 3) return multiply_rows<kHeight, E>(left, right, steps, epilogue);
    multiply_rows<kHeight / 3, E>(left, right, steps, epilogue);
  } else {
    if constexpr (kHeight > 6) {
      if (rows > 8) return multiply_rows<kHeight, E>(left, right, steps, epilogue);
      if (rows > 6) return multiply_rows<8, E>(left, right, steps, epilogue);
    }
    if (rows > 4) return multiply_rows<6, E>(left, right, steps, epilogue);
    if (rows > 2) return multiply_rows<4, E>(left, right, steps, epilogue);
    if (rows > 1) return multiply_rows<2, E>(left, right, steps, epilogue);
    multiply_rows<1, E>(left, right, steps, epilogue);
  }
}

// An epilogue that writes the tile to memory, [kHeight][kWidth].
template <class E>
struct StoreTile {
  typename Tile<E>::Sum* out;
  template <int kRows>
  void operator()(typename Tile<E>::V (&sum)[kRows][Tile<E>::kVectors]) const {
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < Tile<E>::kVectors; ++j) {
        sum[i][j].store(out + i * Tile<E>::kWidth + j * Tile<E>::V::kSize);
      }
    }
  }
};

// An epilogue that adds the first `rows` rows of the tile to rows of sums, `stride` apart.
template <class T>
struct AddTile {
  T* out;
  std::int64_t stride;
  int rows;
  template <int kRows>
  void operator()(Vec<T> (&sum)[kRows][Tile<T>::kVectors]) const {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) break;
      for (int j = 0; j < Tile<T>::kVectors; ++j) {
        T* at = out + r * stride + j * Vec<T>::kSize;
        (Vec<T>::load(at) + sum[r][j]).store(at);
      }
    }
  }
};

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

// Into how many runs to cut the items, or another long side, where there are `blocks` of the other
// already: enough tasks for the cores of a large machine, of `least` items or more each.
inline std::int64_t count_runs(std::int64_t blocks, std::int64_t items, std::int64_t least) {
  constexpr std::int64_t kWantedTasks = 64;
  return std::max<std::int64_t>(
      1, std::min(ceil_div(kWantedTasks, std::max<std::int64_t>(blocks, 1)), items / least));
}

// How many rows of a side to pack at a time: whole panels that together fill about `bytes`.
template <class T>
inline std::int64_t rows_per_block(std::int64_t depth, std::int64_t bytes, int panel,
                                   std::int64_t most) {
  const std::int64_t row = static_cast<std::int64_t>(sizeof(T)) * (depth > 0 ? depth : 1);
  const std::int64_t rows = bytes / row / panel * panel;
  return rows < panel ? panel : (rows > most ? most / panel * panel : rows);
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
