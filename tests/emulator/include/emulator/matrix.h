// ldmatrix, stmatrix, movmatrix and mma.sync: fragments as the PTX manual lays them out.
#pragma once

#include "memory.h"
#include "warp.h"

namespace emulator {

constexpr uint32_t kAllLanes = 0xffffffffu;

// `count` 8x8 matrices of 16 bits; lanes 8 i to 8 i + 7 bring the rows of matrix i.
void load_matrices(int count, bool transposed, uint32_t* registers, uint64_t row);
void store_matrices(int count, bool transposed, const uint32_t* registers, uint64_t row);
uint32_t transpose_matrix(uint32_t value);

// What an operand register of mma holds: `kPacked` elements.
template <class H>
struct HalfElement {
  static constexpr int kPacked = 2;
  static float get(uint32_t bits, int i) {
    return static_cast<float>(as<H>(static_cast<uint16_t>(bits >> 16 * i)));
  }
};

struct Tf32Element {
  static constexpr int kPacked = 1;
  static float get(uint32_t bits, int) { return as<float>(bits & 0xffffe000u); }
};

struct Int8Element {
  static constexpr int kPacked = 4;
  static int32_t get(uint32_t bits, int i) { return static_cast<int8_t>(bits >> 8 * i); }
};

template <class Accumulator>
struct MmaSlot {
  Accumulator* c;
  const uint32_t *a, *b;
};

// A [16, K] and B [K, 8], gathered from the fragments of 32 lanes; B by its columns.
template <class Element, int K>
struct MmaOperands {
  using Value = decltype(Element::get(0, 0));
  static constexpr int P = Element::kPacked;
  static constexpr int kRegistersA = 16 * K / (32 * P), kRegistersB = 8 * K / (32 * P);
  Value a[16][K], b[8][K];

  template <class Accumulator>
  MmaOperands(void** slots, const Accumulator*) {
    for (int lane = 0; lane < 32; ++lane) {
      const auto* slot = static_cast<MmaSlot<Accumulator>*>(slots[lane]);
      const int group = lane / 4, column = lane % 4 * P;
      for (int r = 0; r < kRegistersA; ++r) {
        for (int i = 0; i < P; ++i)
          a[group + 8 * (r & 1)][column + i + (r >> 1) * 4 * P] = Element::get(slot->a[r], i);
      }
      for (int r = 0; r < kRegistersB; ++r) {
        for (int i = 0; i < P; ++i) b[group][column + i + r * 4 * P] = Element::get(slot->b[r], i);
      }
    }
  }
};

// c += a b, m16n8kK; sums run over k in order, in float32 (int32 for int8).
template <class Element, int K, class Accumulator>
inline void mma(Accumulator* c, const uint32_t* a, const uint32_t* b) {
  MmaSlot<Accumulator> mine{c, a, b};
  collect(kAllLanes, &mine, "mma.sync", [](void** slots, uint32_t) {
    MmaOperands<Element, K> operands(slots, static_cast<const Accumulator*>(nullptr));
    for (int lane = 0; lane < 32; ++lane) {
      auto* slot = static_cast<MmaSlot<Accumulator>*>(slots[lane]);
      for (int i = 0; i < 4; ++i) {
        const auto* row = operands.a[lane / 4 + 8 * (i >> 1)];
        const auto* column = operands.b[lane % 4 * 2 + (i & 1)];
        auto sum = static_cast<typename MmaOperands<Element, K>::Value>(slot->c[i]);
        for (int k = 0; k < K; ++k) sum += row[k] * column[k];
        slot->c[i] = static_cast<Accumulator>(sum);
      }
    }
  });
}

}  // namespace emulator
