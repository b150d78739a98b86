// Log-sum-exp of the logits by row, and by column where wanted, in one pass over the tiles.
//
// A task is a block of users times a run of items. Each row has a peak, a logit it has seen, and
// per vector lane a sum of exp(logit - peak). The peak is raised only when a logit is over it by
// kSlack, which a comparison in registers tells: after the first tile that is rare, and exp of the
// slack is far from overflow. The parts of the runs are merged in ascending order.
// Bound: 2 U P D operations and U P exponentials.
#pragma once

#include <cmath>

#include "cpu/exp.h"
#include "cpu/softmax_rows.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// kSmooth: of each row also the sum of its logits, each less the row's origin, as logits with a
// large part in common would cancel. kColumns: peaks and totals by column as well.
template <class T, bool kSmooth, bool kColumns>
class LogSumExp {
 public:
  LogSumExp(const LogitArgs& args, const SoftmaxRows& rows, const PackedUsers<T>& users,
            const T* origins, const Executor& executor)
      : args_(args),
        rows_(rows),
        users_(users),
        origins_(origins),
        executor_(executor),
        depth_(args.user.columns),
        items_(args.item.rows),
        block_users_(rows_per_block<T>(depth_, kUserBytes, kHeight, kMostUsers)),
        chunk_items_(rows_per_block<T>(depth_, kItemBytes, kWidth, 1024)),
        groups_(ceil_div(rows.size(), block_users_)),
        run_items_(items_of_run()),
        runs_(ceil_div(items_, run_items_)),
        row_parts_(runs_, kRowValues * rows.size()),
        column_parts_(groups_, kColumns ? 2 * items_ : 0) {}

  void run() {
    const int workers = executor_.workers();
    Scratch<T> panels(workers, chunk_items_ * depth_);
    Scratch<T> state(workers, block_users_ * (kSmooth ? 3 + 2 * V::kSize : 2 + V::kSize));
    Scratch<ExclusionCursor> cursors(workers, rows_.excluded.empty() ? 0 : block_users_);
    Scratch<std::int64_t> next(workers, rows_.excluded.empty() ? 0 : block_users_ / kHeight);
    executor_.run(groups_ * runs_, [&](std::int64_t task, int worker) {
      const std::int64_t group = task / runs_, run = task % runs_;
      Block block;
      block.i0 = group * block_users_;
      block.i1 = std::min(rows_.size(), block.i0 + block_users_);
      block.peaks = state.of(worker);
      block.limits = block.peaks + block_users_;
      block.sums = block.limits + block_users_;
      block.logits = block.sums + block_users_ * V::kSize;
      block.origins = block.logits + block_users_ * V::kSize;
      block.cursors = cursors.of(worker);
      block.next = next.of(worker);
      block.columns = column_parts_.of(static_cast<int>(group));
      const std::int64_t p0 = run * run_items_, p1 = std::min(items_, p0 + run_items_);
      start(block, p0);
      for (std::int64_t p = p0; p < p1; p += chunk_items_) {
        const std::int64_t end = std::min(p1, p + chunk_items_);
        pack_rows<kWidth>(args_.item, 0, p, end, panels.of(worker));
        for (std::int64_t q = p; q < end; q += kWidth) {
          add_panel(block, q, panels.of(worker) + (q - p) * depth_);
        }
      }
      finish(block, static_cast<int>(run));
    });
  }

  // Peak and total of every row, log-sum-exp = peak + log(total); the sums of logits where kSmooth.
  void merge_rows(T* peaks, T* totals, T* logits) const {
    const std::int64_t n = rows_.size();
    each(n, [&](std::int64_t i) {
      merge(row_parts_, runs_, n, i, peaks, totals);
      if constexpr (kSmooth) {
        logits[i] = 0;
        for (int run = 0; run < runs_; ++run) logits[i] += row_parts_.of(run)[2 * n + i];
      }
    });
  }

  void merge_columns(T* peaks, T* totals) const {
    each(items_, [&](std::int64_t p) { merge(column_parts_, groups_, items_, p, peaks, totals); });
  }

 private:
  using V = Vec<T>;
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  static constexpr int kVectors = Tile<T>::kVectors;
  static constexpr std::int64_t kUserBytes =
      2048 * 1024;  // packed users of a task: read once a panel
  static constexpr std::int64_t kItemBytes = 64 * 1024;  // packed items of a chunk
  static constexpr std::int64_t kMostUsers = 2400;
  static constexpr std::int64_t kLeastItems = 2048;
  static constexpr std::int64_t kRowValues = kSmooth ? 3 : 2;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();
  static constexpr T kSlack = 16;

  // A worker's part of a task.
  struct Block {
    std::int64_t i0, i1;
    T *peaks, *limits;  // a logit above the limit raises the peak
    T* sums;            // [users][lanes]
    T* origins;         // [users], where kSmooth
    T* logits;          // [users][lanes], of logits less the origin, where kSmooth
    ExclusionCursor* cursors;
    std::int64_t* next;  // a tile of users: the next item that one of them excludes
    T* columns;          // where peaks and totals by column go, [2][items]
  };

  std::int64_t items_of_run() const {
    const std::int64_t runs = count_runs(groups_, items_, kLeastItems);
    return round_up(ceil_div(items_, runs), chunk_items_);
  }

  void start(Block& block, std::int64_t p0) const {
    const std::int64_t users = round_up(block.i1 - block.i0, kHeight);
    // The lowest number, and not -inf, which minus itself is NaN.
    std::fill_n(block.peaks, users, std::numeric_limits<T>::lowest());
    std::fill_n(block.limits, users, std::numeric_limits<T>::lowest());
    std::fill(block.limits + (block.i1 - block.i0), block.limits + users, kInfinity);
    std::fill_n(block.sums, users * V::kSize, T(0));
    if constexpr (kSmooth) {
      std::fill_n(block.logits, users * V::kSize, T(0));
      std::fill(std::copy(origins_ + block.i0, origins_ + block.i1, block.origins),
                block.origins + users, T(0));
    }
    if (rows_.excluded.empty()) return;
    for (std::int64_t i = block.i0; i < block.i1; ++i) {
      block.cursors[i - block.i0].start(rows_, i, p0);
    }
    for (std::int64_t at = 0; at < users; at += kHeight) find_next(block, at);
  }

  void find_next(Block& block, std::int64_t at) const {
    std::int64_t& next = block.next[at / kHeight];
    next = std::numeric_limits<std::int64_t>::max();
    const std::int64_t end = std::min(at + kHeight, block.i1 - block.i0);
    for (std::int64_t i = at; i < end; ++i) next = std::min(next, block.cursors[i].next());
  }

  // Peaks and totals of a panel's columns.
  struct ColumnState {
    alignas(64) T peaks[kWidth];
    alignas(64) T limits[kWidth];
    alignas(64) T sums[kWidth];
  };

  [[gnu::noinline]] void add_panel(Block& block, std::int64_t p, const T* panel) const {
    const ItemColumns<T> columns(args_, p);
    ColumnState state;
    std::fill_n(state.peaks, kWidth, std::numeric_limits<T>::lowest());
    std::fill_n(state.limits, kWidth, std::numeric_limits<T>::lowest());
    std::fill_n(state.sums, kWidth, T(0));
    for (std::int64_t i = block.i0; i < block.i1; i += kHeight) {
      const std::int64_t at = i - block.i0;
      const int rows = static_cast<int>(std::min<std::int64_t>(kHeight, block.i1 - i));
      const auto epilogue = [&]<int kRows>(V(&x)[kRows][kVectors]) {
        columns.scale_tile(x, users_.scales(i));
        add_tile(block, at, rows, p, columns, state, x);
      };
      multiply<T, true>(PackedLeft<T>{users_.panel(i)}, RightSide<T>{panel}, depth_, rows,
                        epilogue);
    }
    if constexpr (kColumns) {
      std::copy_n(state.peaks, columns.count, block.columns + p);
      std::copy_n(state.sums, columns.count, block.columns + items_ + p);
    }
  }

  template <int kRows>
  [[gnu::always_inline]] void add_tile(Block& block, std::int64_t at, int rows, std::int64_t p,
                                       const ItemColumns<T>& columns, ColumnState& state,
                                       V (&x)[kRows][kVectors]) const {
    bool edited = !rows_.excluded.empty() && block.next[at / kHeight] < p + kWidth;
    if constexpr (kSmooth) {
      edited = edited || columns.count < kWidth;
      if (!edited) add_logits(block, at, x);
    }
    if (edited) {
      alignas(64) T logits[kRows * kWidth];
      StoreTile<T>{logits}(x);
      edit(block, at, std::min(rows, kRows), p, columns.count, logits);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        for (int j = 0; j < kVectors; ++j) x[r][j] = V::load(logits + r * kWidth + j * V::kSize);
      }
    }
    std::uint32_t above = 0;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const V limit = V::broadcast(block.limits[at + r]);
      for (int j = 0; j < kVectors; ++j) {
        if constexpr (kColumns) {
          if (r >= rows) x[r][j] = V::broadcast(-kInfinity);
          above |= greater(x[r][j], V::load(state.limits + j * V::kSize));
        }
        above |= greater(x[r][j], limit);
      }
    }
    if (above != 0) [[unlikely]] {
      alignas(64) T logits[kRows * kWidth];
      StoreTile<T>{logits}(x);
      raise(block, at, std::min(rows, kRows), state, logits);
    }
    V by_column[kVectors];
    if constexpr (kColumns) {
      for (int j = 0; j < kVectors; ++j) by_column[j] = V::load(state.sums + j * V::kSize);
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const V peak = V::broadcast(block.peaks[at + r]);
      T* sums = block.sums + (at + r) * V::kSize;
      V sum = V::load(sums);
      for (int j = 0; j < kVectors; ++j) {
        sum = sum + exponential(x[r][j] - peak);
        if constexpr (kColumns) {
          by_column[j] = by_column[j] + exponential(x[r][j] - V::load(state.peaks + j * V::kSize));
        }
      }
      sum.store(sums);
    }
    if constexpr (kColumns) {
      for (int j = 0; j < kVectors; ++j) by_column[j].store(state.sums + j * V::kSize);
    }
  }

  // Adds the logits of a whole tile up.
  template <int kRows>
  [[gnu::always_inline]] void add_logits(Block& block, std::int64_t at,
                                         const V (&x)[kRows][kVectors]) const {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      T* sums = block.logits + (at + r) * V::kSize;
      const V origin = V::broadcast(block.origins[at + r]);
      V sum = V::load(sums);
      for (int j = 0; j < kVectors; ++j) sum = sum + (x[r][j] - origin);
      sum.store(sums);
    }
  }

  // Sets excluded logits to -inf, and adds the logits of the others up where they are wanted.
  [[gnu::noinline]] void edit(Block& block, std::int64_t at, int rows, std::int64_t p, int columns,
                              T* logits) const {
    for (int r = 0; r < rows; ++r) {
      T* row = logits + r * kWidth;
      std::uint32_t gone = 0;
      if (!rows_.excluded.empty()) {
        ExclusionCursor& cursor = block.cursors[at + r];
        for (; cursor.next() < p + kWidth; cursor.advance()) gone |= 1U << (cursor.next() - p);
      }
      if constexpr (kSmooth) {
        T* sums = block.logits + (at + r) * V::kSize;
        for (int c = 0; c < columns; ++c) {
          if ((gone >> c & 1) == 0) sums[c % V::kSize] += row[c] - block.origins[at + r];
        }
      }
      for (; gone != 0; gone &= gone - 1) row[__builtin_ctz(gone)] = -kInfinity;
    }
    if (!rows_.excluded.empty()) find_next(block, at);
  }

  // Moves the peaks of the rows, and columns, in which a logit is above the limit.
  [[gnu::noinline]] void raise(Block& block, std::int64_t at, int rows, ColumnState& state,
                               const T* logits) const {
    for (int r = 0; r < rows; ++r) {
      const T* row = logits + r * kWidth;
      T most = -kInfinity;
      for (int c = 0; c < kWidth; ++c) most = row[c] > most ? row[c] : most;
      T* sums = block.sums + (at + r) * V::kSize;
      raise_peak(most, block.peaks[at + r], block.limits[at + r], sums, V::kSize);
    }
    if constexpr (kColumns) {
      for (int c = 0; c < kWidth; ++c) {
        T most = -kInfinity;
        for (int r = 0; r < rows; ++r) {
          most = logits[r * kWidth + c] > most ? logits[r * kWidth + c] : most;
        }
        raise_peak(most, state.peaks[c], state.limits[c], state.sums + c, 1);
      }
    }
  }

  static void raise_peak(T most, T& peak, T& limit, T* sums, int lanes) {
    if (!(most > limit)) return;
    const T factor = std::exp(peak - most);
    for (int lane = 0; lane < lanes; ++lane) sums[lane] *= factor;
    peak = most;
    limit = most + kSlack;
  }

  void finish(const Block& block, int run) {
    const std::int64_t n = rows_.size();
    T* out = row_parts_.of(run) + block.i0;
    for (std::int64_t i = 0; i < block.i1 - block.i0; ++i) {
      out[i] = block.peaks[i];
      out[n + i] = sum_of_lanes(V::load(block.sums + i * V::kSize));
      if constexpr (kSmooth) out[2 * n + i] = sum_of_lanes(V::load(block.logits + i * V::kSize));
    }
  }

  // Entry i of all parts, each [peaks, totals] of `stride` entries, as one.
  static void merge(const Scratch<T>& parts, std::int64_t count, std::int64_t stride,
                    std::int64_t i, T* peaks, T* totals) {
    T peak = std::numeric_limits<T>::lowest();
    for (int part = 0; part < count; ++part) peak = std::max(peak, parts.of(part)[i]);
    T total = 0;
    for (int part = 0; part < count; ++part) {
      total += parts.of(part)[stride + i] * std::exp(parts.of(part)[i] - peak);
    }
    peaks[i] = peak;
    totals[i] = total;
  }

  template <class F>
  void each(std::int64_t size, F&& body) const {
    constexpr std::int64_t kPerTask = 256;
    executor_.run(ceil_div(size, kPerTask), [&](std::int64_t task, int) {
      const std::int64_t end = std::min(size, (task + 1) * kPerTask);
      for (std::int64_t i = task * kPerTask; i < end; ++i) body(i);
    });
  }

  const LogitArgs& args_;
  const SoftmaxRows& rows_;
  const PackedUsers<T>& users_;
  const T* origins_;  // [rows], only where kSmooth
  const Executor& executor_;
  const std::int64_t depth_, items_, block_users_, chunk_items_, groups_, run_items_, runs_;
  Scratch<T> row_parts_, column_parts_;
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
