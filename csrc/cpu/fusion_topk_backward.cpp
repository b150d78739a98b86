// The gradient of fusion_topk: the gradient of a chosen score goes to its user and its item.
//
// The user side is a sum over the user's k items. On the item side the chosen pairs are first
// sorted by item (a counting sort, so pairs of an item stay in the order of users), and each item
// then adds up its own: no atomics, and one order of additions for any number of threads.
// Bound: the rows of the chosen pairs, read twice, and the dense gradients, written once.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kRowsPerTask = 64;

template <class T>
class TopKBackward {
 public:
  explicit TopKBackward(const FusionTopkBackwardArgs& args)
      : args_(args), grad_(static_cast<const T*>(args.grad)) {
    const std::int64_t pairs = args.user.rows * args.k;
    begin_.assign(static_cast<std::size_t>(args.item.rows + 1), 0);
    for (std::int64_t i = 0; i < pairs; ++i) {
      if (args.indices[i] >= args.item.rows) {
        throw std::out_of_range("indices: " + std::to_string(args.indices[i]) +
                                " is out of range for " + std::to_string(args.item.rows) +
                                " items");
      }
      if (args.indices[i] >= 0) ++begin_[static_cast<std::size_t>(args.indices[i] + 1)];
    }
    for (std::size_t p = 1; p < begin_.size(); ++p) begin_[p] += begin_[p - 1];
    pairs_.resize(static_cast<std::size_t>(begin_.back()));
    std::vector<std::int64_t> next(begin_.begin(), begin_.end() - 1);
    for (std::int64_t i = 0; i < pairs; ++i) {
      if (args.indices[i] < 0) continue;
      pairs_[static_cast<std::size_t>(next[static_cast<std::size_t>(args.indices[i])]++)] = i;
    }
  }

  void user_side(std::int64_t u) const {
    T* out = static_cast<T*>(args_.user_sum) + u * args_.item.columns;
    std::fill_n(out, args_.item.columns, T(0));
    for (std::int64_t i = u * args_.k; i < (u + 1) * args_.k; ++i) {
      const std::int64_t p = args_.indices[i];
      if (p >= 0) add_row(args_.item, p, grad_[i] * scale(args_.item_scale, p), out);
    }
  }

  void item_side(std::int64_t p) const {
    T* out = static_cast<T*>(args_.item_sum) + p * args_.user.columns;
    std::fill_n(out, args_.user.columns, T(0));
    T bias = 0;
    for (std::int64_t j = begin_[static_cast<std::size_t>(p)];
         j < begin_[static_cast<std::size_t>(p + 1)]; ++j) {
      const std::int64_t i = pairs_[static_cast<std::size_t>(j)];
      const std::int64_t u = i / args_.k;
      add_row(args_.user, u, grad_[i] * scale(args_.user_scale, u), out);
      bias += grad_[i];
    }
    static_cast<T*>(args_.bias_sum)[p] = bias;
  }

 private:
  static T scale(Scale values, std::int64_t i) {
    return values == nullptr ? T(1) : static_cast<const T*>(values)[i];
  }

  static void add_row(const MatrixView& m, std::int64_t row, T factor, T* out) {
    with_source<T>(m.dtype, [&]<class Source>(Source*) {
      const Source* x = m.template at<Source>(0, row, 0);
      for (std::int64_t d = 0; d < m.columns; ++d) {
        out[d] += factor * static_cast<T>(widen(x[d * m.column_stride]));
      }
    });
  }

  const FusionTopkBackwardArgs& args_;
  const T* grad_;
  std::vector<std::int64_t> begin_;  // [P + 1]: where an item's pairs begin
  std::vector<std::int64_t> pairs_;  // positions in `indices`, sorted by item
};

}  // namespace

void fusion_topk_backward(const FusionTopkBackwardArgs& args, const Executor& executor) {
  with_accumulator(args.user.dtype, [&]<class T>(T*) {
    const TopKBackward<T> backward(args);
    const auto each = [&](std::int64_t rows, auto&& body) {
      executor.run(ceil_div(rows, kRowsPerTask), [&](std::int64_t task, int) {
        const std::int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
        for (std::int64_t i = task * kRowsPerTask; i < end; ++i) body(i);
      });
    };
    each(args.user.rows, [&](std::int64_t u) { backward.user_side(u); });
    each(args.item.rows, [&](std::int64_t p) { backward.item_side(p); });
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
