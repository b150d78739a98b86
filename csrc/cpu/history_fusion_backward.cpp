// The gradients of history_fusion, toward rows or a table, query and weights.
//
// With w the weights of the forward and g the gradient of a history's result:
//   row[t]   near[t] g + far[t] query,  near = w
//   weights  g . row[t]
//   query    sum_t far[t] row[t]
// where far[t] = w[t] (g . row[t] - sum_s w[s] g . row[s]) / sqrt(D).
// First near, far and what needs the rows: rows are read once for both products and, in attention,
// once more for the query's gradient, as a rule from cache. Then the gradient of the rows: each is
// written once where they are the input, and a table's are summed by item (table_gradient.h).
//
// A mean and given weights need no row for the gradient of the rows. The bound is as in the forward
// the reads of rows, and the fresh gradient: its memory is written once and faulted in.
#include <cmath>
#include <cstring>

#include "cpu/histories.h"
#include "cpu/kernels.h"
#include "cpu/scratch.h"
#include "cpu/table_gradient.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

template <class Source>
class Backward {
 public:
  Backward(const HistoryFusionBackwardArgs& args, const Executor& executor)
      : args_(args),
        forward_(args.forward),
        entry_rows_(forward_.values, forward_.histories),
        histories_(forward_.histories, EntryRows<Source>::row_bytes(forward_.values)),
        depth_(forward_.values.columns),
        width_(round_up(depth_, V::kSize)),
        rows_(executor.workers(), entry_rows_.piece()),
        buffers_(executor.workers(), 4 * round_up(kChain, V::kSize) + 3 * width_),
        near_(1, given() ? 0 : forward_.histories.size),
        far_(1, attends() ? forward_.histories.size : 0),
        part_means_(static_cast<std::size_t>(histories_.parts)),
        part_sums_(1, attends() ? histories_.parts * width_ : 0) {}

  void run(const Executor& executor) {
    executor.run(histories_.tasks(), [&](std::int64_t task, int worker) {
      over(histories_.runs[task], [&](std::int64_t b, std::int64_t begin, std::int64_t end,
                                      std::int64_t part) { factors(b, begin, end, part, worker); });
    });
    if (attends()) long_histories(executor);
    if (args_.grad_values == nullptr) return;
    if (forward_.histories.size == 0) return clear_values();
    const T* far = attends() ? far_.of(0) : nullptr;
    if (forward_.histories.indices != nullptr) {
      TableGradient<Source>(args_, near(), far, executor).run(executor);
    } else {
      write_rows(executor);
    }
  }

 private:
  using T = Accumulator<Source>;
  using V = Vec<T>;

  bool attends() const { return forward_.query.data != nullptr; }
  bool given() const { return forward_.weights != nullptr; }
  const T* near() const { return given() ? static_cast<const T*>(forward_.weights) : near_.of(0); }

  // A worker's memory: two rows side by side, a sum, and numbers of a piece.
  T* query_buffer(int worker) { return buffers_.of(worker); }
  T* grad_buffer(int worker) { return buffers_.of(worker) + width_; }
  T* sum_buffer(int worker) { return buffers_.of(worker) + 2 * width_; }
  T* piece_buffer(int worker, int i) {
    return buffers_.of(worker) + 3 * width_ + i * round_up(kChain, V::kSize);
  }

  const T* grad_of(std::int64_t b, int worker) {
    return side_by_side(args_.grad.template at<Source>(0, b, 0), 1, depth_, grad_buffer(worker));
  }
  const T* query_of(std::int64_t b, int worker) {
    return side_by_side(forward_.query.template at<Source>(0, b, 0), 1, depth_,
                        query_buffer(worker));
  }

  // Calls step(history, begin, end, part) for the histories of a run, or the part that it is.
  template <class Step>
  void over(const Histories::Run& run, Step&& step) const {
    if (!run.whole()) return step(run.first, run.begin, run.end, run.part);
    const std::int64_t* offsets = forward_.histories.offsets;
    for (std::int64_t b = run.first; b < run.last; ++b) step(b, offsets[b], offsets[b + 1], -1);
  }

  // Without entries a table has a gradient all the same.
  void clear_values() const {
    std::memset(args_.grad_values, 0,
                sizeof(Source) * static_cast<std::size_t>(forward_.values.rows * depth_));
  }

  void factors(std::int64_t b, std::int64_t begin, std::int64_t end, std::int64_t part,
               int worker) {
    if (attends()) {
      const T mean = products(b, begin, end, worker);
      if (part >= 0) {
        part_means_[part] = mean;
      } else {
        toward_query(begin, end, mean, sum_buffer(worker), worker);
        write_query(b, sum_buffer(worker));
      }
    } else if (!given()) {
      const std::int64_t* offsets = forward_.histories.offsets + b;
      std::fill(near_.of(0) + begin, near_.of(0) + end,
                1 / static_cast<T>(offsets[1] - offsets[0]));
    } else if (args_.grad_weights != nullptr) {
      toward_weights(b, begin, end, worker);
    }
  }

  // Calls step(first entry, rows, count) for pieces of entries [begin, end).
  template <class Step>
  void by_pieces(std::int64_t begin, std::int64_t end, int worker, Step&& step) {
    const Source** rows = rows_.of(worker);
    for (std::int64_t t = begin; t < end; t += entry_rows_.piece()) {
      const std::int64_t count = std::min(entry_rows_.piece(), end - t);
      entry_rows_.list(t, count, rows);
      step(t, rows, count);
    }
  }

  void toward_weights(std::int64_t b, std::int64_t begin, std::int64_t end, int worker) {
    const T* grad = grad_of(b, worker);
    T* products = piece_buffer(worker, 0);
    by_pieces(begin, end, worker, [&](std::int64_t t, const Source** rows, std::int64_t count) {
      DotQueue<T> queue(products);
      const auto fetch = entry_rows_.fetch(t);
      for (std::int64_t i = 0; i < count; ++i) {
        fetch(i);
        queue.push(dot(rows[i], forward_.values.column_stride, grad, depth_));
      }
      queue.flush();
      std::copy_n(products, count, static_cast<T*>(args_.grad_weights) + t);
    });
  }

  // The weights to near and the products g . row to far; returns the mean of these under those.
  T products(std::int64_t b, std::int64_t begin, std::int64_t end, int worker) {
    const T *query = query_of(b, worker), *grad = grad_of(b, worker);
    const T* statistics = static_cast<const T*>(forward_.statistics);
    const T total = statistics[forward_.histories.rows + b];
    const V peak = V::broadcast(statistics[b]);
    const V inverse = V::broadcast(total == 0 ? 0 : 1 / total);
    const V scale = V::broadcast(query_scale<T>(depth_));
    T *weights = piece_buffer(worker, 0), *products = piece_buffer(worker, 1), mean = 0;
    by_pieces(begin, end, worker, [&](std::int64_t t, const Source** rows, std::int64_t count) {
      DotQueue<T> scores(weights), toward(products);
      const auto fetch = entry_rows_.fetch(t);
      for (std::int64_t i = 0; i < count; ++i) {
        fetch(i);
        scores.push(dot(rows[i], forward_.values.column_stride, query, depth_));
        toward.push(dot(rows[i], forward_.values.column_stride, grad, depth_));
      }
      scores.flush();
      toward.flush();
      V sum = V::broadcast(0);  // what the queues left beyond count is 0, and so is its product
      for (std::int64_t i = 0; i < count; i += V::kSize) {
        const V weight = exponential(V::load(weights + i) * scale - peak) * inverse;
        weight.store(weights + i);
        sum = fused_multiply_add(weight, V::load(products + i), sum);
      }
      std::copy_n(weights, count, near_.of(0) + t);
      std::copy_n(products, count, far_.of(0) + t);
      mean += sum_of_lanes(sum);
    });
    return mean;
  }

  // far from the products and their mean, and the sum over these entries toward the query.
  void toward_query(std::int64_t begin, std::int64_t end, T mean, T* sum, int worker) {
    const T scale = query_scale<T>(depth_);
    const T* weights = near_.of(0);
    T* far = far_.of(0);
    for (std::int64_t t = begin; t < end; ++t) far[t] = weights[t] * (far[t] - mean) * scale;
    if (args_.grad_query == nullptr) return;
    std::fill_n(sum, width_, T(0));
    by_pieces(begin, end, worker, [&](std::int64_t t, const Source** rows, std::int64_t count) {
      add_rows(rows, far + t, count, forward_.values.column_stride, depth_,
               [&](std::int64_t d, V piece, int) { (V::load(sum + d) + piece).store(sum + d); });
    });
  }

  void write_query(std::int64_t b, const T* sum) const {
    if (args_.grad_query == nullptr) return;
    Source* out = static_cast<Source*>(args_.grad_query) + b * depth_;
    for (std::int64_t d = 0; d < depth_; ++d) narrow(sum[d], out + d);
  }

  // What waits for all parts of a history: far needs the mean over all, the query the sum.
  void long_histories(const Executor& executor) {
    for (const Histories::Long& history : histories_.longs) {
      T mean = 0;
      for (std::int64_t p = history.first_part; p < history.last_part; ++p) mean += part_means_[p];
      std::fill(&part_means_[history.first_part],
                &part_means_[history.first_part] + (history.last_part - history.first_part), mean);
    }
    if (histories_.parts == 0) return;
    executor.run(histories_.tasks(), [&](std::int64_t task, int worker) {
      const Histories::Run& run = histories_.runs[task];
      if (run.whole()) return;
      T* sum = part_sums_.of(0) + run.part * width_;
      toward_query(run.begin, run.end, part_means_[run.part], sum, worker);
    });
    if (args_.grad_query == nullptr) return;
    executor.run(static_cast<std::int64_t>(histories_.longs.size()), [&](std::int64_t i, int) {
      const Histories::Long& history = histories_.longs[i];
      T* sum = part_sums_.of(0) + history.first_part * width_;
      add_parts(sum, history.last_part - history.first_part, width_);
      write_query(history.history, sum);
    });
  }

  void write_rows(const Executor& executor) {
    const bool streams = can_stream<Source>(args_.grad_values, forward_.histories.size, depth_);
    executor.run(histories_.tasks(), [&](std::int64_t task, int worker) {
      over(histories_.runs[task],
           [&](std::int64_t b, std::int64_t begin, std::int64_t end, std::int64_t) {
             const T* grad = grad_of(b, worker);
             const T* query = attends() ? query_of(b, worker) : nullptr;
             for (std::int64_t t = begin; t < end; ++t) write_row(t, grad, query, streams);
           });
      if (streams) finish_streaming();
    });
  }

  void write_row(std::int64_t t, const T* grad, const T* query, bool streams) const {
    Source* out = static_cast<Source*>(args_.grad_values) + t * depth_;
    const V near_factor = V::broadcast(near()[t]);
    const V far_factor = V::broadcast(query == nullptr ? T(0) : far_.of(0)[t]);
    by_vectors<T>(depth_, 1, [&]<int kVectors>(std::int64_t d, int lanes) {
      for (int j = 0; j < kVectors; ++j) {
        const std::int64_t c = d + j * V::kSize;
        V x = near_factor * load_some(grad + c, 1, lanes);
        if (query != nullptr) x = fused_multiply_add(far_factor, load_some(query + c, 1, lanes), x);
        store_some(x, out + c, lanes, streams);
      }
    });
  }

  const HistoryFusionBackwardArgs& args_;
  const HistoryFusionArgs& forward_;
  const EntryRows<Source> entry_rows_;
  const Histories histories_;
  const std::int64_t depth_, width_;
  Scratch<const Source*> rows_;
  Scratch<T> buffers_, near_, far_;
  std::vector<T> part_means_;
  Scratch<T> part_sums_;
};

}  // namespace

void history_fusion_backward(const HistoryFusionBackwardArgs& args, const Executor& executor) {
  check_histories(args.forward.histories, args.forward.values.rows, executor);
  with_type(args.forward.values.dtype,
            [&]<class Source>(Source*) { Backward<Source>(args, executor).run(executor); });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
