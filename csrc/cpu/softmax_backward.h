// The gradients of a loss over softmaxes: three products a tile, and the logits once more.
//
// A task is a group of users times a run of items, walked block by block. For a block of users
// times a block of items the gradients toward the logits,
//   G[i, p] = row_weight[i] exp(x[i, p] - row_peak[i]) + column_weight[p] exp(x[i, p] -
//   column_peak[p])
//             - uniform[i] - target_weight[i] (p = target[i]),
// 0 where p is excluded, are written to a buffer in the second-level cache and contracted both ways
// where they stand: with the rows of the items toward the users, with the rows of the users toward
// the items. No U x P array exists. The longer side is cut into more tasks; each keeps sums of the
// other side of its own, and these parts are added in ascending order. The cut depends on the
// shapes alone.
// Bound: 6 U P D operations and U P exponentials.
#pragma once

#include <numeric>

#include "cpu/block_products.h"
#include "cpu/exp.h"
#include "cpu/softmax_rows.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// What stands in the formula above, by position in the rows of the softmax, padded to whole tiles
// with peak +inf and weight 0, and negligible whatever their exponentials are.
template <class T>
struct SoftmaxWeights {
  SoftmaxWeights(std::int64_t rows, std::int64_t padded)
      : row_peak(static_cast<std::size_t>(padded), std::numeric_limits<T>::infinity()),
        row_weight(row_peak.size(), T(0)),
        uniform(row_peak.size(), T(0)),
        target_weight(static_cast<std::size_t>(rows), T(0)),
        negligible(row_peak) {}

  std::vector<T> row_peak, row_weight, uniform, target_weight;
  std::vector<T> negligible;                  // what exp(x - row_peak) may be left out below
  std::vector<T> column_peak, column_weight;  // [items]
};

// Zeros for the gradients of a side of which not every row has a part in the loss.
template <class T>
void clear_rows(const MatrixView& side, void* out, void* scale_out) {
  if (scale_out != nullptr) std::fill_n(static_cast<T*>(scale_out), side.rows, T(0));
  if (out == nullptr) return;
  with_source<T>(side.dtype, [&]<class Source>(Source*) {
    std::fill_n(static_cast<Source*>(out), side.rows * side.columns, Source{});
  });
}

// kSmooth: `uniform` counts. kColumns: the column weights count. kSkip: `negligible` counts: of a
// tile of users and a block of items in which every exponential is below it and no target stands,
// nothing goes to users and items.
template <class T, bool kSmooth, bool kColumns, bool kSkip>
class SoftmaxBackward {
 public:
  SoftmaxBackward(const LogitArgs& args, const LogitGradients& out, const SoftmaxRows& rows,
                  const SoftmaxWeights<T>& weights, const PackedUsers<T>& users,
                  const Executor& executor)
      : args_(args),
        out_(out),
        rows_(rows),
        weights_(weights),
        users_(users),
        executor_(executor),
        depth_(args.user.columns),
        width_(round_up(depth_, kWidth)),
        items_(args.item.rows),
        block_items_(rows_per_block<T>(depth_, kItemBytes, kPanels, kMostItems)),
        toward_user_(out.user != nullptr || out.user_scale != nullptr),
        toward_item_(out.item != nullptr || out.item_scale != nullptr),
        split_(split(rows.size(), items_)),
        groups_(std::min(split_.groups, ceil_div(rows.size(), kBlockUsers))),
        group_users_(round_up(ceil_div(rows.size(), groups_), kBlockUsers)),
        run_items_(round_up(ceil_div(items_, split_.runs), block_items_)),
        runs_(ceil_div(items_, run_items_)),
        user_parts_(static_cast<int>(runs_), toward_user_ ? users.padded() * width_ : 0),
        item_parts_(static_cast<int>(groups_), groups_ > 1 && toward_item_ ? items_ * width_ : 0),
        bias_parts_(static_cast<int>(groups_),
                    groups_ > 1 && out.item_bias != nullptr ? items_ : 0) {}

  void run() {
    const int workers = executor_.workers();
    Scratch<T> panels(workers, block_items_ * depth_), item_rows(workers, block_items_ * width_);
    Scratch<T> item_sums(workers, block_items_ * width_), bias_sums(workers, block_items_);
    Scratch<T> gradients(workers, kBlockUsers * kStride);
    Scratch<ExclusionCursor> cursors(workers, rows_.excluded.empty() ? 0 : group_users_);
    executor_.run(groups_ * runs_, [&](std::int64_t task, int worker) {
      Block block;
      block.run = static_cast<int>(task % runs_);
      block.group = static_cast<int>(task / runs_);
      block.i0 = std::min(rows_.size(), block.group * group_users_);
      block.i1 = std::min(rows_.size(), block.i0 + group_users_);
      block.panels = panels.of(worker);
      block.item_rows = item_rows.of(worker);
      block.item_sums = item_sums.of(worker);
      block.bias_sums = bias_sums.of(worker);
      block.gradients = gradients.of(worker);
      block.cursors = cursors.of(worker);
      const std::int64_t p0 = block.run * run_items_, p1 = std::min(items_, p0 + run_items_);
      if (toward_user_) {
        std::fill(user_sums(block.run, block.i0),
                  user_sums(block.run, block.i0 + round_up(block.i1 - block.i0, kHeight)), T(0));
      }
      if (!rows_.excluded.empty()) {
        for (std::int64_t i = block.i0; i < block.i1; ++i) {
          block.cursors[i - block.i0].start(rows_, i, p0);
        }
      }
      for (std::int64_t p = p0; p < p1; p += block_items_) {
        add_items(block, p, std::min(p1, p + block_items_));
      }
    });
    finish_users();
    if (groups_ > 1) finish_items();
  }

 private:
  using V = Vec<T>;
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  static constexpr int kVectors = Tile<T>::kVectors;
  // Blocks of items are whole panels of both kinds: they are columns of one tile, rows of another.
  static constexpr int kPanels = std::lcm(kHeight, kWidth);
  static constexpr std::int64_t kMostItems = 288 / kPanels * kPanels;
  static constexpr std::int64_t kBlockUsers = 192 / kHeight * kHeight;
  static constexpr std::int64_t kStride = kBlockStride;  // between rows of G
  static_assert(kMostItems < kStride);
  static constexpr std::uint32_t kEveryLane = (1U << V::kSize) - 1;
  static constexpr std::int64_t kItemBytes = 160 * 1024;
  static constexpr std::int64_t kWantedTasks = 32, kPartRows = 4;

  struct Block {
    int run, group;
    std::int64_t i0, i1;
    T *panels, *item_rows;     // packed items; their rows times their scale
    T *item_sums, *bias_sums;  // gradients of the block's items
    T* gradients;              // G
    ExclusionCursor* cursors;
    bool matters[kBlockUsers / kHeight];  // by tile of users of the block
  };

  // How the work is cut: the most tasks, up to kWantedTasks, whose parts take no more memory than
  // kPartRows times both sides; of equals those that take least. One group needs no parts of items.
  struct Split {
    std::int64_t groups, runs;
  };

  static Split split(std::int64_t users, std::int64_t items) {
    const std::int64_t budget = kPartRows * (users + items);
    const auto memory = [&](const Split& s) {
      return s.runs * users + (s.groups > 1 ? s.groups * items : 0);
    };
    Split best{1, 1};
    for (std::int64_t groups = 1; groups <= kWantedTasks; ++groups) {
      for (std::int64_t runs = 1; groups * runs <= kWantedTasks; ++runs) {
        const Split s{groups, runs};
        if (memory(s) > budget) continue;
        const std::int64_t gain = groups * runs - best.groups * best.runs;
        if (gain > 0 || (gain == 0 && memory(s) < memory(best))) best = s;
      }
    }
    return best;
  }

  RowPanels<T> item_rows(const Block& block) const { return {block.item_rows, block_items_}; }

  T* user_sums(int run, std::int64_t i) { return user_parts_.of(run) + i * width_; }

  void add_items(Block& block, std::int64_t p0, std::int64_t p1) {
    pack_rows<kWidth>(args_.item, 0, p0, p1, block.panels);
    if (toward_user_) copy_items(block, p0, p1);
    if (toward_item_) std::fill_n(block.item_sums, block_items_ * width_, T(0));
    if (out_.item_bias != nullptr) std::fill_n(block.bias_sums, block_items_, T(0));
    for (std::int64_t i = block.i0; i < block.i1; i += kBlockUsers) {
      const std::int64_t end = std::min(block.i1, i + kBlockUsers);
      std::fill(std::begin(block.matters), std::end(block.matters), !kSkip);
      for (std::int64_t p = p0; p < p1; p += kWidth) write_panel(block, i, end, p0, p);
      edit(block, i, end, p0, p1);
      if (toward_user_) add_to_users(block, i, end, p1 - p0);
      if (toward_item_) add_to_items(block, i, end, p1 - p0);
      if (out_.item_bias != nullptr) add_to_biases(block, end - i, p1 - p0);
    }
    for (std::int64_t p = p0; p < p1; ++p) {
      const T* sums = block.item_sums + (p - p0) * width_;
      if (groups_ == 1) {
        if (toward_item_)
          finish_row(args_.item, p, args_.item_scale, sums, out_.item, out_.item_scale);
        if (out_.item_bias != nullptr) static_cast<T*>(out_.item_bias)[p] = block.bias_sums[p - p0];
      } else {
        if (toward_item_) std::copy_n(sums, width_, item_parts_.of(block.group) + p * width_);
        if (out_.item_bias != nullptr) bias_parts_.of(block.group)[p] = block.bias_sums[p - p0];
      }
    }
  }

  void copy_items(Block& block, std::int64_t p0, std::int64_t p1) const {
    const T* scale = static_cast<const T*>(args_.item_scale);
    with_source<T>(args_.item.dtype, [&]<class Source>(Source*) {
      for (std::int64_t p = p0; p < p1; ++p) {
        item_rows(block).set(p - p0, args_.item.template at<Source>(0, p, 0),
                             args_.item.column_stride, depth_, scale == nullptr ? T(1) : scale[p]);
      }
    });
  }

  // G of users [i0, i1) and the panel of items at p.
  [[gnu::noinline]] void write_panel(Block& block, std::int64_t i0, std::int64_t i1,
                                     std::int64_t p0, std::int64_t p) const {
    const ItemColumns<T> columns(args_, p);
    alignas(64) T column_peak[kWidth], column_weight[kWidth];
    if constexpr (kColumns) {
      std::fill_n(column_peak, kWidth, std::numeric_limits<T>::infinity());
      std::fill_n(column_weight, kWidth, T(0));
      std::copy_n(weights_.column_peak.data() + p, columns.count, column_peak);
      std::copy_n(weights_.column_weight.data() + p, columns.count, column_weight);
    }
    for (std::int64_t i = i0; i < i1; i += kHeight) {
      T* out = block.gradients + (i - i0) * kStride + (p - p0);
      const auto at = static_cast<std::size_t>(i);
      bool& matters = block.matters[(i - i0) / kHeight];
      const auto epilogue = [&]<int kRows>(V(&x)[kRows][kVectors]) {
        columns.scale_tile(x, users_.scales(i));
        std::uint32_t negligible = kEveryLane;
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          const V peak = V::broadcast(weights_.row_peak[at + r]);
          const V weight = V::broadcast(weights_.row_weight[at + r]);
          for (int j = 0; j < kVectors; ++j) {
            V g = exponential(x[r][j] - peak);
            if constexpr (kSkip) {  // so compared that NaN is not negligible
              negligible &= greater(V::broadcast(weights_.negligible[at + r]), g);
            }
            g = g * weight;
            if constexpr (kColumns) {
              g = fused_multiply_add(exponential(x[r][j] - V::load(column_peak + j * V::kSize)),
                                     V::load(column_weight + j * V::kSize), g);
            }
            if constexpr (kSmooth) g = g - V::broadcast(weights_.uniform[at + r]);
            g.store(out + r * kStride + j * V::kSize);
          }
        }
        if constexpr (kSkip) matters = matters || negligible != kEveryLane;
      };
      const int rows = static_cast<int>(std::min<std::int64_t>(kHeight, i1 - i));
      multiply<T, true>(PackedLeft<T>{users_.panel(i)},
                        RightSide<T>{block.panels + (p - p0) * depth_}, depth_, rows, epilogue);
    }
  }

  // What is not the same formula for all: targets and excluded items.
  [[gnu::noinline]] void edit(Block& block, std::int64_t i0, std::int64_t i1, std::int64_t p0,
                              std::int64_t p1) const {
    for (std::int64_t i = i0; i < i1; ++i) {
      T* row = block.gradients + (i - i0) * kStride - p0;
      if (!rows_.excluded.empty()) {
        ExclusionCursor& cursor = block.cursors[i - block.i0];
        for (; cursor.next() < p1; cursor.advance()) row[cursor.next()] = T(0);
      }
      const std::int64_t target = rows_.targets[static_cast<std::size_t>(i)];
      if (target >= p0 && target < p1) {
        row[target] -= weights_.target_weight[static_cast<std::size_t>(i)];
        block.matters[(i - i0) / kHeight] = true;
      }
    }
  }

  void add_to_users(const Block& block, std::int64_t i0, std::int64_t i1, std::int64_t items) {
    each_that_matters(block, i0, i1, [&](std::int64_t begin, std::int64_t end) {
      add_toward_rows(block.gradients + (begin - i0) * kStride, end - begin, items,
                      item_rows(block), 0, width_, user_sums(block.run, begin));
    });
  }

  void add_to_items(const Block& block, std::int64_t i0, std::int64_t i1,
                    std::int64_t items) const {
    each_that_matters(block, i0, i1, [&](std::int64_t begin, std::int64_t end) {
      add_toward_columns(block.gradients + (begin - i0) * kStride, end - begin, items,
                         users_.by_row(), begin, width_, block.item_sums);
    });
  }

  // Calls body(begin, end) for the users of the block that starts at i0 that matter, as many tiles
  // in a row as there are.
  template <class F>
  static void each_that_matters(const Block& block, std::int64_t i0, std::int64_t i1, F&& body) {
    if constexpr (!kSkip) return body(i0, i1);
    for (std::int64_t i = i0; i < i1; i += kHeight) {
      if (!block.matters[(i - i0) / kHeight]) continue;
      std::int64_t end = i + kHeight;
      while (end < i1 && block.matters[(end - i0) / kHeight]) end += kHeight;
      end = std::min(end, i1);
      body(i, end);
      i = end;
    }
  }

  void add_to_biases(Block& block, std::int64_t users, std::int64_t items) const {
    for (std::int64_t i = 0; i < users; ++i) {
      const T* row = block.gradients + i * kStride;
      for (std::int64_t p = 0; p < items; ++p) block.bias_sums[p] += row[p];
    }
  }

  // The gradients of one row from the sum over the other side: toward its scale, and the vector.
  void finish_row(const MatrixView& side, std::int64_t row, Scale scale, const T* sums, void* out,
                  void* scale_out) const {
    with_source<T>(side.dtype, [&]<class Source>(Source*) {
      if (scale_out != nullptr) {
        const Source* x = side.template at<Source>(0, row, 0);
        static_cast<T*>(scale_out)[row] = dot(x, side.column_stride, sums);
      }
      if (out == nullptr) return;
      const T factor = scale == nullptr ? T(1) : static_cast<const T*>(scale)[row];
      Source* to = static_cast<Source*>(out) + row * depth_;
      for (std::int64_t d = 0; d < depth_; ++d) narrow(sums[d] * factor, to + d);
    });
  }

  template <class Source>
  T dot(const Source* x, std::int64_t stride, const T* y) const {
    constexpr int kLanes = 16;  // sums side by side, so that the compiler can use vectors
    T lanes[kLanes] = {};
    std::int64_t d = 0;
    if (stride == 1) {
      for (; d + kLanes <= depth_; d += kLanes) {
        for (int l = 0; l < kLanes; ++l) lanes[l] += static_cast<T>(widen(x[d + l])) * y[d + l];
      }
    }
    for (; d < depth_; ++d) lanes[d % kLanes] += static_cast<T>(widen(x[d * stride])) * y[d];
    T sum = 0;
    for (const T lane : lanes) sum += lane;
    return sum;
  }

  void finish_users() {
    if (!toward_user_) return;
    each(rows_.size(), [&](std::int64_t i) {
      T* sums = user_sums(0, i);
      for (int run = 1; run < runs_; ++run) {
        const T* part = user_sums(run, i);
        for (std::int64_t d = 0; d < width_; ++d) sums[d] += part[d];
      }
      finish_row(args_.user, rows_.users[static_cast<std::size_t>(i)], args_.user_scale, sums,
                 out_.user, out_.user_scale);
    });
  }

  void finish_items() {
    each(items_, [&](std::int64_t p) {
      if (toward_item_) {
        T* sums = item_parts_.of(0) + p * width_;
        for (int group = 1; group < groups_; ++group) {
          const T* part = item_parts_.of(group) + p * width_;
          for (std::int64_t d = 0; d < width_; ++d) sums[d] += part[d];
        }
        finish_row(args_.item, p, args_.item_scale, sums, out_.item, out_.item_scale);
      }
      if (out_.item_bias != nullptr) {
        T sum = 0;
        for (int group = 0; group < groups_; ++group) sum += bias_parts_.of(group)[p];
        static_cast<T*>(out_.item_bias)[p] = sum;
      }
    });
  }

  template <class F>
  void each(std::int64_t size, F&& body) const {
    constexpr std::int64_t kPerTask = 64;
    executor_.run(ceil_div(size, kPerTask), [&](std::int64_t task, int) {
      const std::int64_t end = std::min(size, (task + 1) * kPerTask);
      for (std::int64_t i = task * kPerTask; i < end; ++i) body(i);
    });
  }

  const LogitArgs& args_;
  const LogitGradients& out_;
  const SoftmaxRows& rows_;
  const SoftmaxWeights<T>& weights_;
  const PackedUsers<T>& users_;
  const Executor& executor_;
  const std::int64_t depth_, width_, items_, block_items_;
  const bool toward_user_, toward_item_;
  const Split split_;
  const std::int64_t groups_, group_users_, run_items_, runs_;
  Scratch<T> user_parts_, item_parts_, bias_parts_;
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
