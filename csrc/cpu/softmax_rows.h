// What the two losses share: which users take part, what is not a negative for each, and the
// users packed once a call. Logits are tiles of users times panels of items, as everywhere.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// The rows of a softmax. Users whose target is ignored are left out here, so that nothing behind
// it pays for them or sees what is in their vectors.
struct SoftmaxRows {
  std::vector<std::int64_t> users, targets;
  // Sorted lists of items that are no negatives; the row's own target counts as not listed.
  // Empty where no row has one.
  std::vector<std::span<const std::int64_t>> excluded;

  std::int64_t size() const { return static_cast<std::int64_t>(users.size()); }

  // How many of `items` items are in the softmax of row i.
  std::int64_t kept(std::int64_t i, std::int64_t items) const {
    if (excluded.empty()) return items;
    std::int64_t last = -1;
    for (const std::int64_t p : excluded[static_cast<std::size_t>(i)]) {
      if (p != last && p != targets[static_cast<std::size_t>(i)]) --items;
      last = p;
    }
    return items;
  }
};

// Where a walk over ascending items stands in one row's list of excluded ones.
class ExclusionCursor {
 public:
  // Position `i` of `rows` from item p on.
  void start(const SoftmaxRows& rows, std::int64_t i, std::int64_t p) {
    const auto list = rows.excluded[static_cast<std::size_t>(i)];
    at_ = std::lower_bound(list.data(), list.data() + list.size(), p);
    end_ = list.data() + list.size();
    target_ = rows.targets[static_cast<std::size_t>(i)];
    skip_target();
  }

  // The next excluded item, or a number above all of them.
  std::int64_t next() const {
    return at_ == end_ ? std::numeric_limits<std::int64_t>::max() : *at_;
  }

  void advance() {
    ++at_;
    skip_target();
  }

 private:
  void skip_target() {
    while (at_ != end_ && *at_ == target_) ++at_;
  }

  const std::int64_t *at_, *end_;
  std::int64_t target_;
};

// Item scales and biases of one panel. Padding columns have bias -inf: their exponential is 0.
template <class T>
struct ItemColumns {
  static constexpr int kWidth = Tile<T>::kWidth;

  ItemColumns(const LogitArgs& args, std::int64_t p)
      : count(static_cast<int>(std::min<std::int64_t>(kWidth, args.item.rows - p))) {
    const T* s = static_cast<const T*>(args.item_scale);
    const T* b = static_cast<const T*>(args.item_bias);
    for (int c = 0; c < kWidth; ++c) {
      scale[c] = s == nullptr || c >= count ? T(1) : s[p + c];
      bias[c] = c >= count ? -std::numeric_limits<T>::infinity() : b == nullptr ? T(0) : b[p + c];
    }
  }

  // The logits of a tile, from its sums: the order of operations is that of fusion_matrix.
  template <int kRows>
  [[gnu::always_inline]] void scale_tile(Vec<T> (&sum)[kRows][Tile<T>::kVectors],
                                         const T* user_scales) const {
    using V = Vec<T>;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const V user_scale = V::broadcast(user_scales[r]);
      for (int j = 0; j < Tile<T>::kVectors; ++j) {
        sum[r][j] =
            sum[r][j] * user_scale * V::load(scale + j * V::kSize) + V::load(bias + j * V::kSize);
      }
    }
  }

  int count;
  alignas(64) T scale[kWidth];
  alignas(64) T bias[kWidth];
};

// The users of a softmax, packed for the tile, and, for gradients, as panels of rows.
template <class T>
class PackedUsers {
 public:
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;

  PackedUsers(const LogitArgs& args, const SoftmaxRows& rows, bool for_gradients,
              const Executor& executor)
      : depth_(args.user.columns),
        width_(for_gradients ? round_up(depth_, kWidth) : 0),
        padded_(round_up(rows.size(), kHeight)),
        panels_(1, padded_ * depth_),
        scales_(1, padded_),
        rows_(1, padded_ * width_),
        by_row_{rows_.of(0), padded_} {
    executor.run(padded_ / kHeight, [&](std::int64_t tile, int) {
      with_source<T>(args.user.dtype,
                     [&]<class Source>(Source*) { pack<Source>(args, rows, tile * kHeight); });
    });
  }

  std::int64_t padded() const { return padded_; }
  const T* panel(std::int64_t i) const { return panels_.of(0) + i * depth_; }
  const T* scales(std::int64_t i) const { return scales_.of(0) + i; }
  // Only where they are packed for gradients.
  const RowPanels<T>& by_row() const { return by_row_; }

 private:
  template <class Source>
  void pack(const LogitArgs& args, const SoftmaxRows& rows, std::int64_t first) {
    const auto count = static_cast<int>(std::min<std::int64_t>(kHeight, rows.size() - first));
    const auto row = [&](int r) {
      return args.user.template at<Source>(0, rows.users[static_cast<std::size_t>(first + r)], 0);
    };
    pack_panel<kHeight, T, Source>(row, args.user.column_stride, count, depth_,
                                   panels_.of(0) + first * depth_);
    const T* user_scale = static_cast<const T*>(args.user_scale);
    for (int r = 0; r < kHeight; ++r) {
      T& scale = scales_.of(0)[first + r];
      scale = r >= count              ? T(0)
              : user_scale == nullptr ? T(1)
                                      : user_scale[rows.users[static_cast<std::size_t>(first + r)]];
      if (width_ > 0 && r < count) {
        by_row_.set(first + r, row(r), args.user.column_stride, depth_, scale);
      }
    }
  }

  const std::int64_t depth_, width_, padded_;
  Scratch<T> panels_, scales_, rows_;
  const RowPanels<T> by_row_;
};

// The logit of every row's own target, in the order of additions of every other tile: the same
// bits as in the matrix. The targets of a tile of users are gathered as a panel, and the tile's
// diagonal is kept; where a tile is higher than wide, in more than one go.
template <class T>
std::vector<T> target_logits(const LogitArgs& args, const SoftmaxRows& rows,
                             const PackedUsers<T>& users, const Executor& executor) {
  constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  const std::int64_t depth = args.user.columns;
  std::vector<T> logits(static_cast<std::size_t>(rows.size()));
  Scratch<T> panels(executor.workers(), kWidth * depth);
  executor.run(ceil_div(rows.size(), kHeight), [&](std::int64_t tile, int worker) {
    const std::int64_t first = tile * kHeight;
    const auto count = static_cast<int>(std::min<std::int64_t>(kHeight, rows.size() - first));
    for (int begin = 0; begin < count; begin += kWidth) {
      const int columns = std::min(kWidth, count - begin);
      const std::int64_t* targets = rows.targets.data() + first + begin;
      with_source<T>(args.item.dtype, [&]<class Source>(Source*) {
        const auto row = [&](int c) { return args.item.template at<Source>(0, targets[c], 0); };
        pack_panel<kWidth, T, Source>(row, args.item.column_stride, columns, depth,
                                      panels.of(worker));
      });
      alignas(64) T sums[kHeight * kWidth];
      multiply<T, true>(PackedLeft<T>{users.panel(first)}, RightSide<T>{panels.of(worker)}, depth,
                        count, StoreTile<T>{sums});
      const T* scale = static_cast<const T*>(args.item_scale);
      const T* bias = static_cast<const T*>(args.item_bias);
      for (int c = 0; c < columns; ++c) {
        const int r = begin + c;
        const T x = sums[r * kWidth + c] * users.scales(first)[r] *
                    (scale == nullptr ? T(1) : scale[targets[c]]);
        logits[static_cast<std::size_t>(first + r)] =
            x + (bias == nullptr ? T(0) : bias[targets[c]]);
      }
    }
  });
  return logits;
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
