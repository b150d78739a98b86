// fusion_contrastive: the mean of the cross-entropies of rows and columns against the diagonal.
//
// The same machinery as fusion_cross_entropy with the row's own number as target: one pass gives
// the log-sum-exp of rows and of columns, one pass gives the gradients of both. Items with the id
// of a row are left out of its softmax, and, as that is symmetric, out of the column's.
#include <cmath>
#include <numeric>

#include "cpu/kernels.h"
#include "cpu/softmax_backward.h"
#include "cpu/softmax_forward.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

// Positions sorted by id, those of one id ascending: each row's list is a part of it.
std::vector<std::int64_t> sorted_positions(const std::int64_t* ids, std::int64_t count) {
  std::vector<std::int64_t> order(ids == nullptr ? 0 : static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::sort(order.begin(), order.end(), [ids](std::int64_t a, std::int64_t b) {
    return ids[a] < ids[b] || (ids[a] == ids[b] && a < b);
  });
  return order;
}

SoftmaxRows rows_of(const FusionContrastiveArgs& args, const std::vector<std::int64_t>& order) {
  SoftmaxRows rows;
  rows.users.resize(static_cast<std::size_t>(args.logits.user.rows));
  std::iota(rows.users.begin(), rows.users.end(), std::int64_t{0});
  rows.targets = rows.users;
  const auto same = [&](std::size_t a, std::size_t b) {
    return args.ids[order[a]] == args.ids[order[b]];
  };
  bool repeated = false;
  for (std::size_t i = 1; i < order.size(); ++i) repeated = repeated || same(i - 1, i);
  if (!repeated) return rows;
  rows.excluded.resize(rows.users.size());
  for (std::size_t begin = 0, end; begin < order.size(); begin = end) {
    for (end = begin + 1; end < order.size() && same(begin, end);) ++end;
    for (std::size_t i = begin; i < end; ++i) {
      rows.excluded[static_cast<std::size_t>(order[i])] = {order.data() + begin, end - begin};
    }
  }
  return rows;
}

template <class T>
void forward(const FusionContrastiveArgs& args, const SoftmaxRows& rows, const Executor& executor) {
  const std::int64_t n = rows.size();
  const PackedUsers<T> packed(args.logits, rows, false, executor);
  const std::vector<T> diagonal = target_logits(args.logits, rows, packed, executor);
  LogSumExp<T, false, true> sums(args.logits, rows, packed, nullptr, executor);
  sums.run();
  T* statistics = static_cast<T*>(args.statistics);
  sums.merge_rows(statistics, statistics + n, nullptr);
  sums.merge_columns(statistics + 2 * n, statistics + 3 * n);
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = diagonal[static_cast<std::size_t>(i)];
    const auto side = [&](const T* peaks) {
      return static_cast<double>(peaks[i]) - x + std::log(static_cast<double>(peaks[n + i]));
    };
    static_cast<T*>(args.loss)[i] =
        static_cast<T>((side(statistics) + side(statistics + 2 * n)) / 2);
  }
}

template <class T>
void backward(const FusionContrastiveBackwardArgs& args, const SoftmaxRows& rows,
              const Executor& executor) {
  const std::int64_t n = rows.size();
  const T* grad = static_cast<const T*>(args.grad);
  const T* statistics = static_cast<const T*>(args.forward.statistics);
  const PackedUsers<T> packed(args.forward.logits, rows, true, executor);
  SoftmaxWeights<T> weights(n, packed.padded());
  weights.column_peak.assign(statistics + 2 * n, statistics + 3 * n);
  weights.column_weight.resize(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const T half = grad[i] / 2;
    weights.row_peak[at] = statistics[i];
    weights.row_weight[at] = half / statistics[n + i];
    weights.column_weight[at] = half / statistics[3 * n + i];
    weights.target_weight[at] = grad[i];
  }
  SoftmaxBackward<T, false, true, false>(args.forward.logits, args.out, rows, weights, packed,
                                         executor)
      .run();
}

}  // namespace

void fusion_contrastive(const FusionContrastiveArgs& args, const Executor& executor) {
  if (args.logits.user.rows == 0) return;
  const auto order = sorted_positions(args.ids, args.logits.user.rows);
  const SoftmaxRows rows = rows_of(args, order);
  with_accumulator(args.logits.user.dtype, [&]<class T>(T*) { forward<T>(args, rows, executor); });
}

void fusion_contrastive_backward(const FusionContrastiveBackwardArgs& args,
                                 const Executor& executor) {
  if (args.forward.logits.user.rows == 0) return;
  const auto order = sorted_positions(args.forward.ids, args.forward.logits.user.rows);
  const SoftmaxRows rows = rows_of(args.forward, order);
  with_accumulator(args.forward.logits.user.dtype,
                   [&]<class T>(T*) { backward<T>(args, rows, executor); });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
