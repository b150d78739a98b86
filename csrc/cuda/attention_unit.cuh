// One head of one sample, computed by a group of lanes: what the passes of attention_fusion share.
//
// A group is a power of two of lanes of one warp, as many as a row of the head has packs of 16
// bytes, so that a load of the group is a whole row and neighbouring groups read neighbouring
// memory. Rows wider than 32 packs are walked in chunks. All groups of a warp take the same steps,
// whatever is present: no lane misses a collective. What lanes exchange other than by shuffles, the
// scores, stands in the group's own shared memory between two __syncwarp.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "cuda/attention_cut.h"
#include "cuda/pack.cuh"

namespace fusionops::cuda {

inline constexpr unsigned kWarp = 0xffffffffU;

struct Group {
  __device__ explicit Group(const AttentionCut& cut)
      : lanes(1 << cut.lanes_log2),
        lane(static_cast<int>(threadIdx.x) & (lanes - 1)),
        place(static_cast<int>(threadIdx.x) >> cut.lanes_log2),
        number(static_cast<std::int64_t>(blockIdx.x) * (blockDim.x >> cut.lanes_log2) + place) {}

  const int lanes, lane;      // in the group
  const int place;            // in the block
  const std::int64_t number;  // in the grid
};

// x / by and its remainder; a division of 64 bits takes a hundred instructions.
__device__ inline std::int64_t divide(std::int64_t x, int by, int& remainder) {
  if (x <= 0xffffffffLL) {
    const auto low = static_cast<unsigned>(x), divisor = static_cast<unsigned>(by);
    remainder = static_cast<int>(low % divisor);
    return low / divisor;
  }
  remainder = static_cast<int>(x % by);
  return x / by;
}

// A word with bit i for row i of `count`: set where it is present. None is where `live` is not.
__device__ inline unsigned presence(const MaskView& mask, std::int64_t sample, bool live, int count,
                                    const Group& group) {
  if (mask.data == nullptr) return live && count > 0 ? kWarp >> (32 - count) : 0;
  const int first_lane = static_cast<int>(threadIdx.x) % 32 - group.lane;
  unsigned word = 0;
  for (int first = 0; first < count; first += group.lanes) {
    const int i = first + group.lane;
    bool there = false;
    if (live && i < count) {
      there = mask.data[sample * mask.row_stride + i * mask.column_stride] != 0;
    }
    const unsigned votes = __ballot_sync(kWarp, there) >> first_lane;
    word |= (votes & (kWarp >> (32 - group.lanes))) << first;
  }
  return word;
}

__device__ inline bool has(unsigned word, int i) { return (word >> i & 1U) != 0; }

// A head of a sample, and what of it is present. Where `live` is not, there is no such sample: the
// lanes keep step, and read and write nothing.
struct Unit {
  // The sample `step` of those of `number`, a place in the grid.
  __device__ Unit(const AttentionFusionArgs& args, const AttentionCut& cut, const Group& own,
                  std::int64_t number, std::int64_t step)
      : group(own) {
    sample = divide(number < cut.groups ? number : 0, cut.heads, head) * cut.samples + step;
    live = number < cut.groups && sample < args.key.batch;
    present_queries = presence(args.query_mask, sample, live, cut.queries, group);
    present_tokens = presence(args.mask, sample, live, cut.tokens, group);
  }

  const Group& group;
  std::int64_t sample;
  int head;
  bool live;
  unsigned present_queries, present_tokens;
};

// The rows of one head of one sample. Those that are not present are zeros and never read.
template <class T>
struct Rows {
  __device__ Rows(const MatrixView& view, const Unit& unit, int head_width, unsigned present_rows)
      : data(static_cast<const T*>(view.data) +
             (view.batch == 1 ? 0 : unit.sample * view.batch_stride) +
             static_cast<std::int64_t>(unit.head) * head_width * view.column_stride),
        row_stride(view.row_stride),
        column_stride(view.column_stride),
        width(head_width),
        count(static_cast<int>(view.rows)),
        present(present_rows) {}

  const T* data;
  std::int64_t row_stride, column_stride;
  int width, count;
  unsigned present;
};

// Elements [element, element + kSize) of rows [first, first + kRows).
template <class T, int kSize, int kRows>
__device__ void load_rows(Pack<T, kSize> (&packs)[kRows], const Rows<T>& rows, int first,
                          int element) {
  const bool inside = element < rows.width;
  const std::int64_t column = kSize > 1 ? element : element * rows.column_stride;
  const T* at = rows.data + first * rows.row_stride + column;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    packs[i] = {};
    if (inside && has(rows.present, first + i)) {
      packs[i] = *reinterpret_cast<const Pack<T, kSize>*>(at + i * rows.row_stride);
    }
  }
}

template <int kCount>
__device__ void add_over_group(float (&x)[kCount], const Group& group) {
  for (int distance = group.lanes / 2; distance > 0; distance /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] += __shfl_xor_sync(kWarp, x[i], distance);
  }
}

// The right side is widened once, the left side a row at a time: both at once would not fit.
template <int kLeft, int kRight, class T, int kSize>
__device__ void add_products(float (&sums)[kLeft * kRight], const Pack<T, kSize> (&left)[kLeft],
                             const Pack<T, kSize> (&right)[kRight]) {
  float y[kRight][kSize];
#pragma unroll
  for (int j = 0; j < kRight; ++j) right[j].get(y[j]);
#pragma unroll
  for (int i = 0; i < kLeft; ++i) {
    float x[kSize];
    left[i].get(x);
#pragma unroll
    for (int j = 0; j < kRight; ++j) {
#pragma unroll
      for (int e = 0; e < kSize; ++e) {
        sums[i * kRight + j] = fmaf(x[e], y[j][e], sums[i * kRight + j]);
      }
    }
  }
}

// table[i * stride + j] = scale * left[i] . right[j].
template <int kSize, int kLeft, int kRight, class T>
__device__ void products(const Group& group, const Rows<T>& left, const Rows<T>& right, float scale,
                         float* table, int stride) {
  const int chunk = group.lanes * kSize;
  Pack<T, kSize> held[kLeft];
#pragma unroll 1
  for (int i0 = 0; i0 < left.count; i0 += kLeft) {
#pragma unroll 1
    for (int j0 = 0; j0 < right.count; j0 += kRight) {
      float sums[kLeft * kRight] = {};
#pragma unroll 1
      for (int begin = 0; begin < left.width; begin += chunk) {
        const int element = begin + group.lane * kSize;
        if (j0 == 0 || chunk < left.width) load_rows(held, left, i0, element);
        Pack<T, kSize> packs[kRight];
        load_rows(packs, right, j0, element);
        add_products<kLeft, kRight>(sums, held, packs);
      }
      add_over_group(sums, group);
#pragma unroll
      for (int n = 0; n < kLeft * kRight; ++n) {
        const int i = i0 + n / kRight, j = j0 + n % kRight;
        if (group.lane == 0 && i < left.count && j < right.count) {
          table[i * stride + j] = scale * sums[n];
        }
      }
    }
  }
}

// A sum of rows: entry i has weights[i * out_stride + j * in_stride] of row j.
template <class T>
struct Term {
  const float* weights;
  int out_stride, in_stride;
  Rows<T> rows;
};

template <int kIn, int kOut, int kSize, class T>
__device__ void add_term(float (&sums)[kOut][kSize], const Term<T>& term, int i0, int outs,
                         int element) {
#pragma unroll 1
  for (int j0 = 0; j0 < term.rows.count; j0 += kIn) {
    Pack<T, kSize> packs[kIn];
    load_rows(packs, term.rows, j0, element);
#pragma unroll
    for (int j = 0; j < kIn; ++j) {
      float x[kSize];
      packs[j].get(x);
      const float* weights = term.weights + i0 * term.out_stride + (j0 + j) * term.in_stride;
#pragma unroll
      for (int i = 0; i < kOut; ++i) {
        const bool there = i0 + i < outs && j0 + j < term.rows.count;
        const float weight = there ? weights[i * term.out_stride] : 0;
#pragma unroll
        for (int e = 0; e < kSize; ++e) sums[i][e] = fmaf(weight, x[e], sums[i][e]);
      }
    }
  }
}

// Calls store(i, element, x) with the sums of the terms: for all entries i < outs, a pack each
// time.
template <int kSize, int kOut, int kIn, class Store, class... Terms>
__device__ void combine(const Group& group, int outs, int width, const Store& store,
                        const Terms&... terms) {
#pragma unroll 1
  for (int begin = 0; begin < width; begin += group.lanes * kSize) {
    const int element = begin + group.lane * kSize;
#pragma unroll 1
    for (int i0 = 0; i0 < outs; i0 += kOut) {
      float sums[kOut][kSize] = {};
      (add_term<kIn>(sums, terms, i0, outs, element), ...);
#pragma unroll
      for (int i = 0; i < kOut; ++i) {
        if (i0 + i < outs && element < width) store(i0 + i, element, sums[i]);
      }
    }
  }
}

// The rows of one head in a dense result [batch, rows, columns]; zeros where one is not present:
// what was summed there may be NaN, of a present row times a weight of 0.
template <class T, int kSize>
struct Result {
  __device__ Result(void* out, std::int64_t rows, std::int64_t row_width, const Unit& unit,
                    int head_width, unsigned present_rows)
      : data(static_cast<T*>(out) + unit.sample * rows * row_width +
             static_cast<std::int64_t>(unit.head) * head_width),
        columns(row_width),
        present(present_rows) {}

  __device__ void operator()(int row, int element, float (&x)[kSize]) const {
    Pack<T, kSize> pack = {};
    if (has(present, row)) pack.set(x);
    *reinterpret_cast<Pack<T, kSize>*>(data + row * columns + element) = pack;
  }

  T* data;
  std::int64_t columns;
  unsigned present;
};

}  // namespace fusionops::cuda
