// history_fusion: out[b] = sum_t w[t] * row[t] over the entries of a history, where w is 1 /
// length, given, or softmax(row . query / sqrt(D)).
//
// A task is a run of histories, or a part of a long one, whose sums are added in order afterwards.
// Rows are taken a piece at a time, from the first cache: with a query they are read twice there,
// for the products and for the sum, and the softmax is rescaled between pieces (online).
//
// Two operations an element read, four with a query: with ids the bound is T random reads of a row,
// which are asked for well ahead; without ids it is memory bandwidth.
#include <cmath>
#include <limits>

#include "cpu/histories.h"
#include "cpu/kernels.h"
#include "cpu/scratch.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

template <class Source>
class Pooling {
 public:
  Pooling(const HistoryFusionArgs& args, const Executor& executor)
      : args_(args),
        entry_rows_(args.values, args.histories),
        histories_(args.histories, EntryRows<Source>::row_bytes(args.values)),
        depth_(args.values.columns),
        width_(round_up(depth_, V::kSize)),
        rows_(executor.workers(), entry_rows_.piece()),
        weights_(executor.workers(), round_up(entry_rows_.piece(), V::kSize)),
        queries_(executor.workers(), width_),
        sums_(executor.workers(), width_),
        part_sums_(1, histories_.parts * width_),
        part_states_(static_cast<std::size_t>(histories_.parts)) {
    for (int w = 0; w < executor.workers(); ++w) {
      std::fill_n(weights_.of(w), entry_rows_.piece(), T(1));
    }
  }

  void run(const Executor& executor) {
    executor.run(histories_.tasks(), [&](std::int64_t task, int worker) {
      const auto& run = histories_.runs[task];
      if (!run.whole()) {
        T* sum = part_sums_.of(0) + run.part * width_;
        part_states_[run.part] = pool(run.first, run.begin, run.end, sum, worker);
        return;
      }
      for (std::int64_t b = run.first; b < run.last; ++b) {
        const std::int64_t* offsets = args_.histories.offsets + b;
        T* sum = sums_.of(worker);
        finish(b, pool(b, offsets[0], offsets[1], sum, worker), sum);
      }
    });
    executor.run(static_cast<std::int64_t>(histories_.longs.size()),
                 [&](std::int64_t i, int) { add_parts_of(histories_.longs[i]); });
  }

 private:
  using T = Accumulator<Source>;
  using V = Vec<T>;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  // Of the softmax so far: its weights are exp(score - peak), and total is their sum.
  struct State {
    T peak = -kInfinity, total = 0;
  };

  bool attends() const { return args_.query.data != nullptr; }

  // The weighted sum of entries [begin, end), with a query before the division by the total.
  State pool(std::int64_t b, std::int64_t begin, std::int64_t end, T* sum, int worker) {
    const Source** rows = rows_.of(worker);
    std::fill_n(sum, width_, T(0));
    State state;
    const T* query = nullptr;
    if (attends()) {
      query = side_by_side(args_.query.template at<Source>(0, b, 0), args_.query.column_stride,
                           depth_, queries_.of(worker));
    }
    for (std::int64_t t = begin; t < end; t += entry_rows_.piece()) {
      const std::int64_t count = std::min(entry_rows_.piece(), end - t);
      entry_rows_.list(t, count, rows);
      const T* weights = weights_.of(worker);
      V kept = V::broadcast(1);
      if (attends()) {
        kept = V::broadcast(attend(t, rows, count, query, weights_.of(worker), state));
      } else if (args_.weights != nullptr) {
        weights = static_cast<const T*>(args_.weights) + t;
      }
      const auto add = [&](std::int64_t d, V piece, int) {
        fused_multiply_add(kept, V::load(sum + d), piece).store(sum + d);
      };
      add_rows(rows, weights, count, args_.values.column_stride, depth_, add,
               entry_rows_.fetch(t, !attends()));
    }
    return state;
  }

  // The weights of a piece, and by how much those before it shrink.
  T attend(std::int64_t t, const Source* const* rows, std::int64_t count, const T* query,
           T* weights, State& state) const {
    DotQueue<T> queue(weights);
    const auto fetch = entry_rows_.fetch(t);
    for (std::int64_t i = 0; i < count; ++i) {
      fetch(i);
      queue.push(dot(rows[i], args_.values.column_stride, query, depth_));
    }
    queue.flush();
    const T scale = query_scale<T>(depth_);
    T peak = state.peak;
    for (std::int64_t i = 0; i < count; ++i) {
      weights[i] *= scale;
      peak = weights[i] > peak ? weights[i] : peak;
    }
    std::fill(weights + count, weights + round_up(count, V::kSize), -kInfinity);
    const V shift = V::broadcast(peak == -kInfinity ? 0 : peak);
    V total = V::broadcast(0);
    for (std::int64_t i = 0; i < count; i += V::kSize) {
      const V weight = exponential(V::load(weights + i) - shift);
      weight.store(weights + i);
      total = total + weight;
    }
    const T kept = std::exp(state.peak - (peak == -kInfinity ? 0 : peak));
    state = {peak, state.total * kept + sum_of_lanes(total)};
    return kept;
  }

  void finish(std::int64_t b, const State& state, const T* sum) const {
    const std::int64_t length = args_.histories.offsets[b + 1] - args_.histories.offsets[b];
    T divisor = args_.weights != nullptr ? T(1) : static_cast<T>(length);
    if (attends()) divisor = state.total;
    const V factor = V::broadcast(divisor == 0 ? 0 : 1 / divisor);
    Source* out = static_cast<Source*>(args_.out) + b * depth_;
    by_vectors<T>(depth_, 1, [&]<int kVectors>(std::int64_t d, int lanes) {
      for (int j = 0; j < kVectors; ++j) {
        const std::int64_t c = d + j * V::kSize;
        store_some(V::load(sum + c) * factor, out + c, lanes, false);
      }
    });
    if (!attends()) return;
    T* statistics = static_cast<T*>(args_.statistics);
    statistics[b] = state.peak == -kInfinity ? 0 : state.peak;
    statistics[args_.histories.rows + b] = state.total;
  }

  void add_parts_of(const Histories::Long& history) {
    T* sum = part_sums_.of(0) + history.first_part * width_;
    State all = part_states_[history.first_part];
    for (std::int64_t p = history.first_part + 1; p < history.last_part; ++p) {
      const T* part = part_sums_.of(0) + p * width_;
      const State& state = part_states_[p];
      T mine = 1, its = 1;
      if (attends()) {
        const T peak = state.peak > all.peak ? state.peak : all.peak;
        const T shift = peak == -kInfinity ? 0 : peak;
        mine = std::exp(all.peak - shift);
        its = std::exp(state.peak - shift);
        all = {peak, all.total * mine + state.total * its};
      }
      for (std::int64_t d = 0; d < width_; ++d) sum[d] = sum[d] * mine + part[d] * its;
    }
    finish(history.history, all, sum);
  }

  const HistoryFusionArgs& args_;
  const EntryRows<Source> entry_rows_;
  const Histories histories_;
  const std::int64_t depth_, width_;
  Scratch<const Source*> rows_;
  Scratch<T> weights_, queries_, sums_, part_sums_;
  std::vector<State> part_states_;
};

}  // namespace

void history_fusion(const HistoryFusionArgs& args, const Executor& executor) {
  check_histories(args.histories, args.values.rows, executor);
  with_type(args.values.dtype,
            [&]<class Source>(Source*) { Pooling<Source>(args, executor).run(executor); });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
