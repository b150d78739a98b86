// The epilogue of fusion_topk: what of a tile of scores belongs to the best, and where it goes.
//
// A warp keeps lists of its own for the rows that it scores, so nothing here waits for another
// warp. Scores are compared with their row's threshold in registers; what passes is appended to a
// few pending entries in shared memory, and a row whose entries are full is flushed: they are
// checked against `allowed` and the user's exclusions, sorted by the warp and merged into the row's
// list in global memory, which stays in the second-level cache. Thresholds rise with that.
//
// Scores that meet the threshold exactly are left out: their index is above those of the list, as
// places come in ascending order. Candidates come in any order, and for them the threshold is lower
// by one step; the comparison of keys decides.
#pragma once

#include <math_constants.h>

#include <cstdint>

#include "core/tensor_view.h"
#include "cuda/score_tile.cuh"
#include "cuda/top_k_list.cuh"

namespace fusionops::cuda {

inline constexpr int kPending = 16;  // entries a row, no fewer than the lanes that share a row

// What the kernels of fusion_topk need of its arguments.
struct TopKProblem {
  Rows users, items;
  const float *user_scale, *item_scale, *item_bias;
  MaskView allowed;
  const std::int64_t *exclude_offsets, *exclude_indices;
  std::int64_t exclude_size;
  const std::int64_t* candidate_offsets;  // null: all items are scored; else items has the lists
  std::int64_t candidate_size;
  std::int64_t user_blocks, split_items;
  Key* lists;  // [users][lists_each][chunks * 32]
  std::int64_t lists_each;
  int k, chunks;
  float* scores;
  std::int64_t* indices;
};

// Part of a ragged list's row, whatever the offsets say.
struct Span {
  std::int64_t begin, end;
};

__device__ inline Span span_of(const std::int64_t* offsets, std::int64_t row, std::int64_t size) {
  const std::int64_t begin = max(offsets[row], std::int64_t{0});
  return {begin, max(begin, min(offsets[row + 1], size))};
}

// values[at], of an array in registers.
template <int kCount>
__device__ float pick(const float (&values)[kCount], int at) {
  if constexpr (kCount == 1) {
    return values[0];
  } else {
    float half[kCount / 2];
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const float low = values[i], high = values[i + kCount / 2];
      half[i] = (at & (kCount / 2)) != 0 ? high : low;
    }
    return pick(half, at);
  }
}

template <class Shape>
class Collector {
 public:
  using Math = typename Shape::Math;
  using Sums = float[Math::kRows][Math::kColumns];
  using Row = float[Math::kRows];                   // a number for each row of a thread
  static constexpr int kUserRow = Shape::kUserRow;  // rows of a warp
  static_assert(kPending >= Math::kGroup && kPending <= 32 && kUserRow <= 32);

  // In shared memory.
  struct Memory {
    float scale[kItemSlots][Shape::kItems], bias[kItemSlots][Shape::kItems];  // of tiles of items
    struct Warp {
      Key pending[kUserRow][kPending];
      Key floor[kUserRow];  // the k-th of the list: what is not above it is out
      int count[kUserRow];  // of pending entries
      float threshold[kUserRow], user_scale[kUserRow];
    } warp[Shape::kWarps];
  };

  __device__ Collector(const TopKProblem& problem, Memory* memory, std::int64_t first_user,
                       std::int64_t end_user, std::int64_t split, std::int64_t end)
      : problem_(problem),
        memory_(memory),
        warp_(memory->warp[threadIdx.x / 32]),
        lane_(static_cast<int>(threadIdx.x) % 32),
        end_(end),
        first_user_(first_user + Shape::warp_user()),
        list_(split * Shape::kAcross + static_cast<int>(threadIdx.x) / 32 % Shape::kAcross),
        plain_(problem.user_scale == nullptr && problem.item_bias == nullptr) {
    for (int row = 0; row < kUserRow && first_user_ + row < end_user; ++row) {
      list(row).clear(lane_);
    }
    if (lane_ < kUserRow) {
      const std::int64_t user = first_user_ + lane_;
      const bool scaled = user < end_user && problem.user_scale != nullptr;
      warp_.count[lane_] = 0;
      warp_.floor[lane_] = 0;
      warp_.threshold[lane_] = user < end_user ? -CUDART_INF_F : CUDART_INF_F;
      warp_.user_scale[lane_] = scaled ? problem.user_scale[user] : 1.0F;
    }
    __syncwarp();
  }

  // Scales and biases of the tile at `place`. A scale of NaN keeps what is not there, or not
  // allowed to anybody, from passing any threshold.
  __device__ void begin(std::int64_t place, int slot) const {
    for (int c = static_cast<int>(threadIdx.x); c < Shape::kItems; c += Shape::kThreads) {
      const std::int64_t p = problem_.items.row(place + c, end_);
      float* scale = &memory_->scale[slot][c];
      float* bias = &memory_->bias[slot][c];
      *bias = 0.0F;
      if (p < 0 || !allowed_to_all(p)) {
        *scale = CUDART_NAN_F;
        continue;
      }
      if (problem_.item_scale == nullptr) {
        *scale = 1.0F;
      } else {
        copy_async<4>(scale, problem_.item_scale + p, 4);
      }
      if (problem_.item_bias != nullptr) copy_async<4>(bias, problem_.item_bias + p, 4);
    }
  }

  // Takes what is good enough of a tile.
  __device__ void take(std::int64_t place, int slot, const Sums& sum) {
    const float *scale = memory_->scale[slot] + Shape::warp_item(),
                *bias = memory_->bias[slot] + Shape::warp_item();
    // Read anew for each tile: kept, they would take registers from the products.
    float threshold[Math::kRows], by_user[Math::kRows];
    read(warp_.threshold, threshold);
    read(warp_.user_scale, by_user);
    bool open[Math::kRows];
    if (plain_) {
      compare(sum, threshold, open,
              [&](float x, int, int column) { return __fmul_rn(x, scale[column]); });
    } else {
      compare(sum, threshold, open, [&](float x, int i, int column) {
        return score(x, by_user[i], scale[column], bias[column]);
      });
    }
    bool any = false;
#pragma unroll
    for (int i = 0; i < Math::kRows; ++i) any |= open[i];
    if (__any_sync(kAllLanes, any)) append(place, scale, bias, sum, threshold, by_user, open);
  }

  // Brings the last pending entries into the lists.
  __device__ void finish() { flush_rows(1); }

 private:
  __device__ static float score(float sum, float by_user, float by_item, float bias) {
    return __fadd_rn(__fmul_rn(__fmul_rn(sum, by_user), by_item), bias);
  }

  __device__ bool allowed_to_all(std::int64_t p) const {
    const MaskView& mask = problem_.allowed;
    return mask.data == nullptr || mask.row_stride != 0 || mask.data[p * mask.column_stride] != 0;
  }

  __device__ bool unordered() const { return problem_.candidate_offsets != nullptr; }

  __device__ KeyList list(int row) const {
    const std::int64_t at = (first_user_ + row) * problem_.lists_each + list_;
    return {problem_.lists + at * problem_.chunks * 32, problem_.chunks};
  }

  __device__ void read(const float (&shared)[kUserRow], Row& row) const {
#pragma unroll
    for (int i = 0; i < Math::kRows; ++i) row[i] = shared[Math::row(lane_, i)];
  }

  // Whether any score of a row of this thread passes.
  template <class Score>
  __device__ void compare(const Sums& sum, const Row& threshold, bool (&open)[Math::kRows],
                          const Score& score) const {
#pragma unroll
    for (int i = 0; i < Math::kRows; ++i) open[i] = false;
#pragma unroll
    for (int j = 0; j < Math::kColumns; ++j) {
      const int column = Math::column(lane_, j);
#pragma unroll
      for (int i = 0; i < Math::kRows; ++i) open[i] |= score(sum[i][j], i, column) > threshold[i];
    }
  }

  // Appends what passes, flushing rows on the way. All lanes come here.
  __device__ void append(std::int64_t place, const float* scale, const float* bias, const Sums& sum,
                         const Row& threshold, const Row& by_user,
                         const bool (&open)[Math::kRows]) {
    unsigned rest[Math::kRows];  // bit j: sum[i][j] passed and has not been appended
#pragma unroll
    for (int i = 0; i < Math::kRows; ++i) {
      rest[i] = 0;
      if (!__any_sync(kAllLanes, open[i])) continue;
#pragma unroll
      for (int j = 0; j < Math::kColumns; ++j) {
        const int column = Math::column(lane_, j);
        const bool passed =
            score(sum[i][j], by_user[i], scale[column], bias[column]) > threshold[i];
        rest[i] |= static_cast<unsigned>(passed) << j;
      }
    }
    for (;;) {
      bool full = false;
#pragma unroll
      for (int i = 0; i < Math::kRows; ++i) {
        if (__any_sync(kAllLanes, rest[i] != 0)) {
          full |= append_row(i, place, scale, bias, sum[i], by_user[i], rest[i]);
        }
      }
      if (!__any_sync(kAllLanes, full)) return;
      flush_rows(kPending);
    }
  }

  // Appends the rest of row i; true where its pending entries are full before its end.
  __device__ bool append_row(int i, std::int64_t place, const float* scale, const float* bias,
                             const float (&sum)[Math::kColumns], float by_user, unsigned& rest) {
    const int row = Math::row(lane_, i);
    const unsigned group = ((Math::kGroup == 32 ? 0U : 1U << Math::kGroup) - 1)
                           << (lane_ / Math::kGroup * Math::kGroup);
    bool full = false;
    while (__any_sync(kAllLanes, rest != 0 && !full)) {
      Key key = 0;
      if (rest != 0 && !full) {
        const int column = Math::column(lane_, __ffs(static_cast<int>(rest)) - 1);
        const float value = score(pick(sum, __ffs(static_cast<int>(rest)) - 1), by_user,
                                  scale[column], bias[column]);
        const std::int64_t p = problem_.items.row(place + Shape::warp_item() + column, end_);
        key = key_of(value, static_cast<std::uint32_t>(p));
        if (key <= warp_.floor[row]) {
          key = 0;
          rest &= rest - 1;
        }
      }
      const unsigned takers = __ballot_sync(kAllLanes, key != 0) & group;
      const int count = warp_.count[row];
      const int at = count + __popc(takers & ((1U << lane_) - 1));
      __syncwarp();
      if (key != 0) {
        full = at >= kPending;
        if (!full) {
          warp_.pending[row][at] = key;
          rest &= rest - 1;
        }
      }
      if (takers != 0 && lane_ % Math::kGroup == 0) {
        warp_.count[row] = min(count + __popc(takers), kPending);
      }
      __syncwarp();
    }
    return full;
  }

  // Flushes the rows with at least `least` pending entries.
  __device__ void flush_rows(int least) {
    const bool due = lane_ < kUserRow && warp_.count[lane_ % kUserRow] >= least;
    for (unsigned rows = __ballot_sync(kAllLanes, due); rows != 0; rows &= rows - 1) {
      flush(__ffs(static_cast<int>(rows)) - 1);
    }
  }

  __device__ void flush(int row) {
    const int count = warp_.count[row];
    Key key = lane_ < count ? warp_.pending[row][lane_] : 0;
    key = sort_keys(admitted(first_user_ + row, key), lane_);
    const KeyList best = list(row);
    if (unordered()) key = best.without_known(key, lane_);
    best.merge(key, lane_);
    if (lane_ == 0) {
      const Key floor = best.keys[problem_.k - 1];
      const float least = score_of(floor);
      warp_.floor[row] = floor;
      warp_.threshold[row] = unordered() ? nextafterf(least, -CUDART_INF_F) : least;
      warp_.count[row] = 0;
    }
    __syncwarp();
  }

  // The key, or 0 where the user may not be recommended the item.
  __device__ Key admitted(std::int64_t user, Key key) const {
    const std::uint32_t item = index_of(key);
    const MaskView& mask = problem_.allowed;
    if (key != 0 && mask.data != nullptr && mask.row_stride != 0 &&
        mask.data[user * mask.row_stride + item * mask.column_stride] == 0) {
      key = 0;
    }
    if (problem_.exclude_offsets == nullptr) return key;
    const Span span = span_of(problem_.exclude_offsets, user, problem_.exclude_size);
    for (std::int64_t at = span.begin; at < span.end; at += 32) {
      const std::int64_t named = at + lane_ < span.end ? problem_.exclude_indices[at + lane_] : -1;
      const auto excluded = named < 0 || named >= problem_.items.count
                                ? 0xffffffffU  // of no item
                                : static_cast<std::uint32_t>(named);
#pragma unroll 8
      for (int other = 0; other < 32; ++other) {
        if (__shfl_sync(kAllLanes, excluded, other) == item) key = 0;
      }
    }
    return key;
  }

  const TopKProblem& problem_;
  Memory* memory_;
  typename Memory::Warp& warp_;
  const int lane_;
  const std::int64_t end_, first_user_, list_;
  const bool plain_;
};

}  // namespace fusionops::cuda
