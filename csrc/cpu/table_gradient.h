// The gradient of a table whose rows were read by ids: for each item, over its entries t in
// ascending order, the sum of near[t] * grad[owner(t)] + far[t] * query[owner(t)].
//
// Nothing is added to in place: the entries are first brought to their items, in two counting
// sorts. The first is by ranges of items and reads the entries in blocks, all at once; the second
// is inside a range, in cache, by the task that then writes the range's rows, each once. So there
// are no atomics, and the order of additions is that of the entries. O(T + P).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// sum_i weights[i] * rows[i] of rows that come one at a time.
template <class Source>
class RowSum {
 public:
  using T = Accumulator<Source>;
  using V = Vec<T>;

  RowSum(std::int64_t columns, T* sum) : columns_(columns), sum_(sum) {}

  void push(const Source* row, T weight) {
    if (count_ == kChain) flush();
    rows_[count_] = row;
    weights_[count_++] = weight;
  }

  // Hands each vector of the sum to emit(first column, sum, lanes) and begins anew.
  template <class Emit>
  void finish(Emit&& emit) {
    add_rows(rows_, weights_, count_, 1, columns_, [&](std::int64_t d, V piece, int lanes) {
      emit(d, begun_ ? V::load(sum_ + d) + piece : piece, lanes);
    });
    count_ = 0;
    begun_ = false;
  }

 private:
  void flush() {
    finish([&](std::int64_t d, V sum, int) { sum.store(sum_ + d); });
    begun_ = true;
  }

  const std::int64_t columns_;
  T* const sum_;  // [columns, rounded up to vectors]
  std::int64_t count_ = 0;
  bool begun_ = false;
  const Source* rows_[kChain];
  T weights_[kChain];
};

template <class Source>
class TableGradient {
 public:
  using T = Accumulator<Source>;

  // Columns of grad and query stand side by side. far is null without a query.
  TableGradient(const HistoryFusionBackwardArgs& args, const T* near, const T* far,
                const Executor& executor)
      : args_(args),
        list_(args.forward.histories),
        near_(near),
        far_(far),
        items_(args.forward.values.rows),
        depth_(args.forward.values.columns),
        shift_(std::bit_width(static_cast<std::uint64_t>(items_ / kRanges))),
        ranges_(ceil_div(items_, std::int64_t(1) << shift_)),
        blocks_(std::clamp<std::int64_t>(list_.size / kBlock, 1, kMostBlocks)),
        places_(static_cast<std::size_t>(blocks_ * ranges_ + 1)),
        entries_(1, list_.size),
        sums_(executor.workers(), round_up(depth_, Vec<T>::kSize)) {}

  void run(const Executor& executor) {
    if (items_ == 0) return;
    executor.run(blocks_, [&](std::int64_t block, int) { count(block); });
    place();
    executor.run(blocks_, [&](std::int64_t block, int) { distribute(block); });
    Scratch<std::int64_t> order(executor.workers(), largest_range());
    Scratch<std::int64_t> ends(executor.workers(), (std::int64_t(1) << shift_) + 1);
    const bool streams = can_stream<Source>(args_.grad_values, items_, depth_);
    executor.run(ranges_, [&](std::int64_t range, int worker) {
      sort(range, order.of(worker), ends.of(worker));
      write(range, order.of(worker), ends.of(worker), sums_.of(worker), streams);
    });
  }

 private:
  static constexpr std::int64_t kRanges = 256;  // of items, at most twice as many
  static constexpr std::int64_t kBlock = 4096, kMostBlocks = 64;

  struct Entry {
    std::int64_t item, owner;
    T near, far;
  };

  std::int64_t block_begin(std::int64_t block) const {
    return list_.size / blocks_ * block + std::min(block, list_.size % blocks_);
  }
  // Where the entries of a range from a block go: by range, then by block.
  std::int64_t& place_of(std::int64_t range, std::int64_t block) {
    return places_[range * blocks_ + block];
  }

  void count(std::int64_t block) {
    std::int64_t counts[2 * kRanges + 1] = {};
    for (std::int64_t t = block_begin(block); t < block_begin(block + 1); ++t) {
      ++counts[list_.indices[t] >> shift_];
    }
    for (std::int64_t r = 0; r < ranges_; ++r) place_of(r, block) = counts[r];
  }

  void place() {
    std::int64_t next = 0;
    for (std::int64_t& place : places_) next += std::exchange(place, next);
    begins_.clear();
    for (std::int64_t r = 0; r <= ranges_; ++r) begins_.push_back(places_[r * blocks_]);
  }

  std::int64_t largest_range() const {
    std::int64_t most = 0;
    for (std::int64_t r = 0; r < ranges_; ++r) most = std::max(most, begins_[r + 1] - begins_[r]);
    return most;
  }

  void distribute(std::int64_t block) {
    const std::int64_t begin = block_begin(block), end = block_begin(block + 1);
    std::int64_t next[2 * kRanges + 1];
    for (std::int64_t r = 0; r < ranges_; ++r) next[r] = place_of(r, block);
    const std::int64_t* offsets = list_.offsets;
    std::int64_t owner = std::upper_bound(offsets, offsets + list_.rows + 1, begin) - offsets - 1;
    for (std::int64_t t = begin; t < end; ++t) {
      while (offsets[owner + 1] <= t) ++owner;
      const std::int64_t item = list_.indices[t];
      entries_.of(0)[next[item >> shift_]++] = {item, owner, near_[t],
                                                far_ == nullptr ? T(0) : far_[t]};
    }
  }

  // The entries of a range by item: item i has order[ends[i - 1]..ends[i]].
  void sort(std::int64_t range, std::int64_t* order, std::int64_t* ends) const {
    const std::int64_t begin = begins_[range], end = begins_[range + 1];
    const std::int64_t first = range << shift_, size = std::int64_t(1) << shift_;
    const Entry* entries = entries_.of(0);
    std::fill_n(ends, size + 1, 0);
    for (std::int64_t e = begin; e < end; ++e) ++ends[entries[e].item - first + 1];
    for (std::int64_t i = 0; i < size; ++i) ends[i + 1] += ends[i];
    for (std::int64_t e = begin; e < end; ++e) order[ends[entries[e].item - first]++] = e;
  }

  void write(std::int64_t range, const std::int64_t* order, const std::int64_t* ends, T* sum,
             bool streams) const {
    constexpr std::int64_t kAhead = 16;  // entries
    const std::int64_t first = range << shift_;
    const std::int64_t last = std::min(items_, (range + 1) << shift_);
    const std::int64_t count = begins_[range + 1] - begins_[range];
    RowSum<Source> rows(depth_, sum);
    for (std::int64_t item = first, k = 0; item < last; ++item) {
      for (; k < ends[item - first]; ++k) {
        if (k + kAhead < count) fetch(order[k + kAhead]);
        const Entry& entry = entries_.of(0)[order[k]];
        rows.push(args_.grad.template at<Source>(0, entry.owner, 0), entry.near);
        if (far_ == nullptr) continue;
        rows.push(args_.forward.query.template at<Source>(0, entry.owner, 0), entry.far);
      }
      Source* out = static_cast<Source*>(args_.grad_values) + item * depth_;
      rows.finish(
          [&](std::int64_t d, Vec<T> x, int lanes) { store_some(x, out + d, lanes, streams); });
    }
    if (streams) finish_streaming();
  }

  [[gnu::always_inline]] void fetch(std::int64_t e) const {
    const std::int64_t owner = entries_.of(0)[e].owner;
    prefetch_row(args_.grad.template at<Source>(0, owner, 0), depth_);
    if (far_ != nullptr) prefetch_row(args_.forward.query.template at<Source>(0, owner, 0), depth_);
  }

  const HistoryFusionBackwardArgs& args_;
  const RaggedView& list_;
  const T *near_, *far_;
  const std::int64_t items_, depth_, shift_, ranges_, blocks_;
  std::vector<std::int64_t> places_, begins_;
  Scratch<Entry> entries_;
  Scratch<T> sums_;
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
