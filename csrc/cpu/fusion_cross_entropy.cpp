// fusion_cross_entropy: softmax cross-entropy over the whole catalogue, without the U x P logits.
//
// The forward keeps two numbers a user (softmax_forward.h); the backward computes the logits again
// from them (softmax_backward.h). Bound: 2 U P D operations forward and 6 U P D backward.
#include <cmath>
#include <stdexcept>
#include <string>

#include "cpu/kernels.h"
#include "cpu/softmax_backward.h"
#include "cpu/softmax_forward.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

// Throws std::out_of_range unless every target is an item or ignored.
void check_targets(const FusionCrossEntropyArgs& args) {
  const std::int64_t items = args.logits.item.rows;
  for (std::int64_t u = 0; u < args.logits.user.rows; ++u) {
    const std::int64_t target = args.target[u];
    if (target == args.ignore_index || (target >= 0 && target < items)) continue;
    throw std::out_of_range("target: index " + std::to_string(target) + " at position " +
                            std::to_string(u) + " is out of range for " + std::to_string(items) +
                            " items");
  }
}

SoftmaxRows rows_of(const FusionCrossEntropyArgs& args, const SortedRagged& excluded) {
  SoftmaxRows rows;
  for (std::int64_t u = 0; u < args.logits.user.rows; ++u) {
    if (args.target[u] == args.ignore_index) continue;
    rows.users.push_back(u);
    rows.targets.push_back(args.target[u]);
    if (excluded.present()) rows.excluded.push_back(excluded.row(u));
  }
  return rows;
}

template <class T, bool kSmooth>
void forward(const FusionCrossEntropyArgs& args, const SoftmaxRows& rows,
             const Executor& executor) {
  const std::int64_t users = args.logits.user.rows, items = args.logits.item.rows;
  T* loss = static_cast<T*>(args.loss);
  T* statistics = static_cast<T*>(args.statistics);
  std::fill_n(loss, users, T(0));
  std::fill_n(statistics, users, T(0));
  std::fill_n(statistics + users, users, T(1));
  if (rows.size() == 0) return;
  const PackedUsers<T> packed(args.logits, rows, false, executor);
  const std::vector<T> targets = target_logits(args.logits, rows, packed, executor);
  LogSumExp<T, kSmooth, false> sums(args.logits, rows, packed, targets.data(), executor);
  sums.run();
  const auto n = static_cast<std::size_t>(rows.size());
  std::vector<T> peaks(n), totals(n), logits(kSmooth ? n : 0);
  sums.merge_rows(peaks.data(), totals.data(), logits.data());
  for (std::size_t i = 0; i < n; ++i) {
    // In double, and the peak and the target first: a small loss is a small difference.
    const double log_total = std::log(static_cast<double>(totals[i]));
    double value = static_cast<double>(peaks[i]) - static_cast<double>(targets[i]) + log_total;
    if constexpr (kSmooth) {
      const auto kept = static_cast<double>(rows.kept(static_cast<std::int64_t>(i), items));
      value -= args.label_smoothing * static_cast<double>(logits[i]) / kept;
    }
    const std::int64_t u = rows.users[i];
    loss[u] = static_cast<T>(value);
    statistics[u] = peaks[i];
    statistics[users + u] = totals[i];
  }
}

template <class T, bool kSmooth, bool kSkip>
void backward(const FusionCrossEntropyBackwardArgs& args, const SoftmaxRows& rows,
              const Executor& executor) {
  const LogitArgs& logits = args.forward.logits;
  const std::int64_t users = logits.user.rows, items = logits.item.rows;
  const T* grad = static_cast<const T*>(args.grad);
  const T* statistics = static_cast<const T*>(args.forward.statistics);
  if (rows.size() < users) clear_rows<T>(logits.user, args.out.user, args.out.user_scale);
  if (rows.size() == 0) {
    clear_rows<T>(logits.item, args.out.item, args.out.item_scale);
    if (args.out.item_bias != nullptr)
      std::fill_n(static_cast<T*>(args.out.item_bias), items, T(0));
    return;
  }
  const PackedUsers<T> packed(logits, rows, true, executor);
  SoftmaxWeights<T> weights(rows.size(), packed.padded());
  const T smoothing = static_cast<T>(args.forward.label_smoothing);
  for (std::size_t i = 0; i < rows.users.size(); ++i) {
    const std::int64_t u = rows.users[i];
    weights.row_peak[i] = statistics[u];
    weights.row_weight[i] = grad[u] / statistics[users + u];
    weights.target_weight[i] = grad[u] * (1 - smoothing);
    if constexpr (kSkip) {
      weights.negligible[i] = static_cast<T>(args.skip_below) * statistics[users + u];
    }
    if constexpr (kSmooth) {
      weights.uniform[i] =
          grad[u] * smoothing / static_cast<T>(rows.kept(static_cast<std::int64_t>(i), items));
    }
  }
  SoftmaxBackward<T, kSmooth, false, kSkip>(logits, args.out, rows, weights, packed, executor)
      .run();
}

}  // namespace

void fusion_cross_entropy(const FusionCrossEntropyArgs& args, const Executor& executor) {
  check_targets(args);
  check_ragged(args.exclude, args.logits.item.rows, "exclude");
  const SortedRagged excluded(args.exclude);
  const SoftmaxRows rows = rows_of(args, excluded);
  with_accumulator(args.logits.user.dtype, [&]<class T>(T*) {
    if (args.label_smoothing == 0) return forward<T, false>(args, rows, executor);
    forward<T, true>(args, rows, executor);
  });
}

void fusion_cross_entropy_backward(const FusionCrossEntropyBackwardArgs& args,
                                   const Executor& executor) {
  check_targets(args.forward);
  check_ragged(args.forward.exclude, args.forward.logits.item.rows, "exclude");
  const SortedRagged excluded(args.forward.exclude);
  const SoftmaxRows rows = rows_of(args.forward, excluded);
  with_accumulator(args.forward.logits.user.dtype, [&]<class T>(T*) {
    // With smoothing every item has a part of the target's weight.
    if (args.forward.label_smoothing > 0) return backward<T, true, false>(args, rows, executor);
    if (args.skip_below > 0) return backward<T, false, true>(args, rows, executor);
    backward<T, false, false>(args, rows, executor);
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
