// How a warp multiplies a slab of users with a slab of items: on tensor cores, or by fused
// multiply-adds.
//
// A warp has kUsers x kItems sums. Each thread keeps sum[kRows][kColumns] of them: row(i) and
// column(j) say which, and kGroup neighbouring lanes share a row. Either way the products of a sum
// are added in ascending order of features, whatever the tile: the bits of a score do not depend on
// where it is computed.
#pragma once

#include <cstdint>

#include "cuda/mma.cuh"
#include "cuda/score_rows.cuh"

namespace fusionops::cuda {

// bfloat16, float16, and float rounded to tf32.
template <class ElementType, int kUsers, int kItems>
struct TensorMath {
  using Element = ElementType;
  using Sum = float;
  static constexpr int kRows = kUsers / 8, kColumns = kItems / 4, kGroup = 4;
  static_assert(kUsers % 16 == 0 && kItems % 16 == 0);

  __device__ static int row(int lane, int i) { return i * 8 + lane / 4; }
  __device__ static int column(int lane, int j) { return j / 2 * 8 + lane % 4 * 2 + j % 2; }

  __device__ static void load(std::uint32_t (&part)[4], const char* slab, int row, int chunk) {
    load_matrices(part, slab + chunk_offset(row, chunk));
    if constexpr (sizeof(Element) == 4) {
#pragma unroll
      for (int i = 0; i < 4; ++i) part[i] = to_tf32(part[i]);
    }
  }

  __device__ static void multiply(const char* users, const char* items, int lane,
                                  Sum (&sum)[kRows][kColumns]) {
    const int within = lane % 8, matrix = lane / 8;
// In one piece, the large tile's loads of both steps would be moved up, past the registers.
#pragma unroll(kUsers* kItems > 1024 ? 1 : 2)
    for (int step = 0; step < 2; ++step) {  // of 32 bytes of features
      std::uint32_t left[kUsers / 16][4];
#pragma unroll
      for (int i = 0; i < kUsers / 16; ++i) {
        load(left[i], users, i * 16 + matrix % 2 * 8 + within, step * 2 + matrix / 2);
      }
#pragma unroll
      for (int j = 0; j < kItems / 16; ++j) {
        std::uint32_t right[4];
        load(right, items, j * 16 + matrix / 2 * 8 + within, step * 2 + matrix % 2);
#pragma unroll
        for (int i = 0; i < kUsers / 16; ++i) {
          add(sum, i, 2 * j, left[i], right[0], right[1]);
          add(sum, i, 2 * j + 1, left[i], right[2], right[3]);
        }
      }
    }
  }

 private:
  __device__ static void add(Sum (&sum)[kRows][kColumns], int i, int j,
                             const std::uint32_t (&left)[4], std::uint32_t right0,
                             std::uint32_t right1) {
    float part[4] = {sum[2 * i][2 * j], sum[2 * i][2 * j + 1], sum[2 * i + 1][2 * j],
                     sum[2 * i + 1][2 * j + 1]};
    multiply_add<Element>(part, left, right0, right1);
    sum[2 * i][2 * j] = part[0];
    sum[2 * i][2 * j + 1] = part[1];
    sum[2 * i + 1][2 * j] = part[2];
    sum[2 * i + 1][2 * j + 1] = part[3];
  }
};

// float and double, exact to their rounding. kLanes lanes stand side by side along the items.
template <class ElementType, int kUsers, int kItems, int kLanes>
struct PlainMath {
  using Element = ElementType;
  using Sum = ElementType;
  static constexpr int kGroup = kLanes, kDown = 32 / kLanes;
  static constexpr int kRows = kUsers / kDown, kColumns = kItems / kLanes;
  static constexpr int kElements = kChunkBytes / static_cast<int>(sizeof(Element));
  struct alignas(kChunkBytes) Chunk {
    Element value[kElements];
  };

  __device__ static int row(int lane, int i) { return i * kDown + lane / kLanes; }
  __device__ static int column(int lane, int j) { return j * kLanes + lane % kLanes; }

  __device__ static void multiply(const char* users, const char* items, int lane,
                                  Sum (&sum)[kRows][kColumns]) {
#pragma unroll 1  // unrolled, the loads of all chunks would be moved up, past the registers
    for (int chunk = 0; chunk < kRowBytes / kChunkBytes; ++chunk) {
#pragma unroll
      for (int first = 0; first < kColumns; first += kHeld) {
        Chunk right[kHeld];
#pragma unroll
        for (int j = 0; j < kHeld; ++j) {
          right[j] = chunk_of(items, column(lane, first + j), chunk);
        }
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const Chunk left = chunk_of(users, row(lane, i), chunk);
#pragma unroll
          for (int e = 0; e < kElements; ++e) {
#pragma unroll
            for (int j = 0; j < kHeld; ++j) {
              sum[i][first + j] = fma(left.value[e], right[j].value[e], sum[i][first + j]);
            }
          }
        }
      }
    }
  }

 private:
  static constexpr int kHeld = 4;  // columns in registers; rows come again for the next of them
  static_assert(kColumns % kHeld == 0);

  __device__ static Chunk chunk_of(const char* slab, int row, int chunk) {
    return *reinterpret_cast<const Chunk*>(slab + chunk_offset(row, chunk));
  }
};

}  // namespace fusionops::cuda
