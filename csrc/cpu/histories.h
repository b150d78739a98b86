// Histories one after the other: how they are cut into tasks, and their rows.
//
// The cut depends on the offsets and the width of a row alone: runs of whole histories, and parts
// of those that are long.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

struct Histories {
  // Histories [first, last), whole; or entries [begin, end) of `first`, which is the part'th part.
  struct Run {
    std::int64_t first, last, begin, end, part;
    bool whole() const { return part < 0; }
  };
  // A history in parts [first_part, last_part).
  struct Long {
    std::int64_t history, first_part, last_part;
  };

  Histories(const RaggedView& list, std::int64_t row_bytes) {
    constexpr std::int64_t kRunBytes = 256 * 1024, kMostEntries = 4096;
    constexpr std::int64_t kMostParts = 256;  // of one history: their sums are held
    const std::int64_t size = std::clamp<std::int64_t>(
        kRunBytes / std::max<std::int64_t>(1, row_bytes), 16, kMostEntries);
    std::int64_t first = 0, cost = 0;
    const auto close = [&](std::int64_t last) {
      if (first < last) {
        runs.push_back({first, last, list.offsets[first], list.offsets[last], -1});
      }
      first = last;
      cost = 0;
    };
    for (std::int64_t b = 0; b < list.rows; ++b) {
      const std::int64_t begin = list.offsets[b], end = list.offsets[b + 1];
      if (end - begin <= 2 * size) {
        constexpr std::int64_t kEmpty = 4;  // what an empty history costs, in entries
        cost += end - begin + kEmpty;
        if (cost >= size) close(b + 1);
        continue;
      }
      close(b);
      const std::int64_t step = std::max(size, ceil_div(end - begin, kMostParts));
      longs.push_back({b, parts, parts + ceil_div(end - begin, step)});
      for (std::int64_t t = begin; t < end; t += step) {
        runs.push_back({b, b + 1, t, std::min(end, t + step), parts++});
      }
      first = b + 1;
    }
    close(list.rows);
  }

  std::int64_t tasks() const { return static_cast<std::int64_t>(runs.size()); }

  std::vector<Run> runs;
  std::vector<Long> longs;
  std::int64_t parts = 0;
};

// The row of each entry: where its id says, or where it stands itself.
template <class Source>
class EntryRows {
 public:
  EntryRows(const MatrixView& values, const RaggedView& list)
      : row_{values.template at<Source>(0, 0, 0), list.indices, values.row_stride},
        contiguous_(values.column_stride == 1),
        columns_(values.columns),
        last_(list.size - 1),
        bytes_(row_bytes(values)) {}

  static std::int64_t row_bytes(const MatrixView& values) {
    return std::max<std::int64_t>(1, values.columns * static_cast<std::int64_t>(sizeof(Source)));
  }

  // At most this many at a time: they stay in the first cache, and their sum is one chain.
  std::int64_t piece() const { return std::clamp<std::int64_t>(32 * 1024 / bytes_, 8, kChain); }

  // Pointers to the rows of entries [begin, begin + count).
  void list(std::int64_t begin, std::int64_t count, const Source** rows) const {
    const Row row = row_;
    for (std::int64_t i = 0; i < count; ++i) rows[i] = row(begin + i);
  }

 private:
  struct Row {
    const Source* data;
    const std::int64_t* ids;
    std::int64_t stride;
    [[gnu::always_inline]] const Source* operator()(std::int64_t t) const {
      return data + (ids == nullptr ? t : ids[t]) * stride;
    }
  };

 public:
  // Asks for the row of an entry some time after the i-th of a piece: each can be anywhere, and
  // what is computed from a row is too little to hide the wait.
  struct Fetch {
    Row row;
    std::int64_t begin, last, columns;
    bool wanted;
    // Always inline: of a function that only fetches GCC believes that it does nothing.
    [[gnu::always_inline]] void operator()(std::int64_t i) const {
      if (wanted) prefetch_row(row(std::min(begin + i, last)), columns);
    }
  };
  Fetch fetch(std::int64_t begin, bool wanted = true) const {
    const std::int64_t ahead = std::clamp<std::int64_t>(12 * 1024 / bytes_, 2, 64);
    return {row_, begin + ahead, last_, columns_, wanted && contiguous_};
  }

 private:
  const Row row_;
  const bool contiguous_;
  const std::int64_t columns_, last_, bytes_;
};

// 1 / sqrt(D): what products with a query are multiplied by.
template <class T>
T query_scale(std::int64_t columns) {
  return columns == 0 ? T(0) : static_cast<T>(1 / std::sqrt(static_cast<double>(columns)));
}

// Throws std::out_of_range unless the offsets rise from 0 to the number of entries and every id is
// a row of the table. The ids by all workers: one alone would take as long as a tenth of the sums.
inline void check_histories(const RaggedView& list, std::int64_t rows, const Executor& executor) {
  constexpr std::int64_t kBlock = 32768;
  check_offsets(list.offsets, list.rows, list.size, "offsets:");
  if (list.indices == nullptr) return;
  std::atomic<bool> wrong = false;
  executor.run(ceil_div(list.size, kBlock), [&](std::int64_t block, int) {
    std::uint64_t outside = 0;
    const std::int64_t end = std::min(list.size, (block + 1) * kBlock);
    for (std::int64_t t = block * kBlock; t < end; ++t) {
      outside |= static_cast<std::uint64_t>(list.indices[t]) >= static_cast<std::uint64_t>(rows);
    }
    if (outside != 0) wrong.store(true, std::memory_order_relaxed);
  });
  if (wrong) check_indices(list.indices, list.size, rows, "ids");
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
