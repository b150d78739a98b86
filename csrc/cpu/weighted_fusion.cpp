// weighted_fusion: out[b] = sum_m softmax(logits[b])[m] * values[b, m] over the tokens present.
//
// A task is a block of samples. Its weights come first, for all its samples at once: [M][samples],
// a sample a lane, so that exponentials fill vectors however few tokens there are. Then each
// sample's rows are read once and its result is written once, both in the order of memory.
//
// M is small, so there are two operations for every element read and an exponential for every D:
// the bound is memory bandwidth, in the backward together with the page faults of the fresh
// gradient. The backward computes the weights again, which is cheaper than to store and read them.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kBlockBytes = 256 * 1024;  // of values in a task
constexpr std::int64_t kMostSamples = 256;

// How the samples are cut into blocks: by the shape and the dtype.
struct Blocks {
  explicit Blocks(const MatrixView& values)
      : samples(std::clamp<std::int64_t>(
            kBlockBytes /
                std::max<std::int64_t>(1, values.rows * values.columns *
                                              static_cast<std::int64_t>(size_of(values.dtype))),
            1, kMostSamples)),
        count(ceil_div(values.batch, samples)) {}

  std::int64_t samples, count;
};

// Fetches the rows that come later: hardware stops at every page of 4 KB, and that is a few
// samples. Where the batch does not follow in memory, it does nothing.
template <class Source>
class Ahead {
 public:
  explicit Ahead(const MatrixView& values)
      : values_(values),
        follows_(values.column_stride == 1 &&
                 values.batch_stride == values.rows * values.row_stride),
        rows_(ceil_div(kBytes, std::max<std::int64_t>(
                                   1, values.columns * static_cast<std::int64_t>(sizeof(Source))))),
        last_(values.batch * values.rows - 1) {}

  // Always inline: of a function that only fetches GCC believes that it does nothing.
  [[gnu::always_inline]] void fetch(std::int64_t b, std::int64_t m) const {
    if (!follows_) return;
    const std::int64_t row = std::min(last_, b * values_.rows + m + rows_);
    prefetch_row(values_.template at<Source>(0, row, 0), values_.columns);
  }

 private:
  static constexpr std::int64_t kBytes = 16 * 1024;
  const MatrixView& values_;
  const bool follows_;
  const std::int64_t rows_, last_;
};

// The softmax of a block of samples.
template <class T>
class Weights {
 public:
  Weights(const WeightedFusionArgs& args, const Blocks& blocks, int workers)
      : args_(args),
        width_(round_up(blocks.samples, Vec<T>::kSize)),
        scratch_(workers, std::max<std::int64_t>(args.values.rows, 1) * width_) {}

  // Token m of sample begin + s is at [m * width() + s].
  const T* compute(std::int64_t begin, std::int64_t end, int worker) {
    T* w = scratch_.of(worker);
    const std::int64_t tokens = args_.values.rows;
    for (std::int64_t m = 0; m < tokens; ++m) read(begin, end, m, w + m * width_);
    for (std::int64_t s = 0; s < end - begin; s += V::kSize) normalize(w + s, tokens);
    return w;
  }

  std::int64_t width() const { return width_; }

 private:
  using V = Vec<T>;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  void read(std::int64_t begin, std::int64_t end, std::int64_t m, T* out) const {
    const T* logits = args_.logits.template at<T>(0, begin, m);
    for (std::int64_t s = 0; s < end - begin; ++s) out[s] = logits[s * args_.logits.row_stride];
    if (args_.mask.present()) {
      for (std::int64_t s = 0; s < end - begin; ++s) {
        if (!args_.mask(begin + s, m)) out[s] = -kInfinity;
      }
    }
    std::fill(out + (end - begin), out + width_, -kInfinity);
  }

  // One lane a sample. Where all logits are -inf the weights are 0.
  void normalize(T* w, std::int64_t tokens) const {
    V peak = V::broadcast(-kInfinity);
    for (std::int64_t m = 0; m < tokens; ++m) peak = maximum(V::load(w + m * width_), peak);
    alignas(64) T lanes[V::kSize];
    peak.store(lanes);
    for (T& x : lanes) x = x == -kInfinity ? 0 : x;
    peak = V::load(lanes);
    V total = V::broadcast(0);
    for (std::int64_t first = 0; first < tokens; first += kChain) {
      V part = V::broadcast(0);
      for (std::int64_t m = first; m < std::min(tokens, first + kChain); ++m) {
        const V e = exponential(V::load(w + m * width_) - peak);
        e.store(w + m * width_);
        part = part + e;
      }
      total = total + part;
    }
    total.store(lanes);
    for (T& x : lanes) x = x == 0 ? 0 : 1 / x;
    const V inverse = V::load(lanes);
    for (std::int64_t m = 0; m < tokens; ++m) {
      (V::load(w + m * width_) * inverse).store(w + m * width_);
    }
  }

  const WeightedFusionArgs& args_;
  const std::int64_t width_;
  Scratch<T> scratch_;
};

template <class Source>
void forward(const WeightedFusionArgs& args, const Executor& executor) {
  using T = Accumulator<Source>;
  const MatrixView& values = args.values;
  const std::int64_t tokens = values.rows, depth = values.columns;
  const Blocks blocks(values);
  Weights<T> weights(args, blocks, executor.workers());
  Scratch<const Source*> row_scratch(executor.workers(), tokens);
  Scratch<T> weight_scratch(executor.workers(), tokens);
  const Ahead<Source> ahead(values);
  const bool streams = can_stream<Source>(args.out, values.batch, depth);
  executor.run(blocks.count, [&](std::int64_t task, int worker) {
    const std::int64_t begin = task * blocks.samples;
    const std::int64_t end = std::min(values.batch, begin + blocks.samples);
    const T* w = weights.compute(begin, end, worker);
    const Source** rows = row_scratch.of(worker);
    T* row_weights = weight_scratch.of(worker);
    for (std::int64_t b = begin; b < end; ++b) {
      std::int64_t count = 0;  // of the tokens present: the others are not read
      for (std::int64_t m = 0; m < tokens; ++m) {
        ahead.fetch(b, m);
        rows[count] = values.template at<Source>(b, m, 0);
        row_weights[count] = w[m * weights.width() + b - begin];
        count += !args.mask.present() || args.mask(b, m) ? 1 : 0;
      }
      Source* out = static_cast<Source*>(args.out) + b * depth;
      add_rows(
          rows, row_weights, count, values.column_stride, depth,
          [&](std::int64_t d, Vec<T> sum, int lanes) { store_some(sum, out + d, lanes, streams); });
    }
    if (streams) finish_streaming();
  });
}

template <class Source>
class Backward {
 public:
  Backward(const WeightedFusionBackwardArgs& args, const Executor& executor)
      : args_(args),
        values_(args.forward.values),
        blocks_(values_),
        ahead_(values_),
        weights_(args.forward, blocks_, executor.workers()),
        grads_(executor.workers(), values_.columns),
        dots_(executor.workers(), round_up(blocks_.samples * values_.rows, V::kSize)),
        parts_(1, shared() ? blocks_.count * values_.rows : 0),
        streams_(
            can_stream<Source>(args.grad_values, values_.batch * values_.rows, values_.columns)) {}

  void run(const Executor& executor) {
    executor.run(blocks_.count, [&](std::int64_t task, int worker) { block(task, worker); });
    if (!shared()) return;
    T* out = static_cast<T*>(args_.grad_logits);
    if (blocks_.count == 0) {
      std::fill_n(out, values_.rows, T(0));
    } else {
      add_parts(parts_.of(0), blocks_.count, values_.rows);
      std::copy_n(parts_.of(0), values_.rows, out);
    }
  }

 private:
  using T = Accumulator<Source>;
  using V = Vec<T>;

  // One gradient for the logits that all samples share: a sum of each block, then over the blocks.
  bool shared() const { return args_.grad_logits != nullptr && args_.forward.logits.rows == 1; }

  void block(std::int64_t task, int worker) {
    const std::int64_t begin = task * blocks_.samples;
    const std::int64_t end = std::min(values_.batch, begin + blocks_.samples);
    const T* w = weights_.compute(begin, end, worker);
    T* dots = dots_.of(worker);
    DotQueue<T> queue(dots);
    for (std::int64_t b = begin; b < end; ++b) {
      const Source* row = args_.grad.template at<Source>(0, b, 0);
      const T* grad =
          side_by_side(row, args_.grad.column_stride, values_.columns, grads_.of(worker));
      sample(b, w + (b - begin), grad, queue);
    }
    queue.flush();
    if (streams_) finish_streaming();
    if (args_.grad_logits != nullptr) toward_logits(task, begin, end, w, dots);
  }

  // The gradient of a sample's values, and its products with them.
  void sample(std::int64_t b, const T* w, const T* grad, DotQueue<T>& queue) const {
    const MaskView& mask = args_.forward.mask;
    for (std::int64_t m = 0; m < values_.rows; ++m) {
      const bool present = !mask.present() || mask(b, m);
      if (args_.grad_logits != nullptr) {
        ahead_.fetch(b, m);
        queue.push(present ? dot(values_.template at<Source>(b, m, 0), values_.column_stride, grad,
                                 values_.columns)
                           : V::broadcast(0));
      }
      if (args_.grad_values == nullptr) continue;
      Source* out =
          static_cast<Source*>(args_.grad_values) + (b * values_.rows + m) * values_.columns;
      const V weight = V::broadcast(w[m * weights_.width()]);
      by_vectors<T>(values_.columns, 1, [&]<int kVectors>(std::int64_t d, int lanes) {
        for (int j = 0; j < kVectors; ++j) {
          const std::int64_t c = d + j * V::kSize;
          const V x = present ? weight * load_some(grad + c, 1, lanes) : V::broadcast(0);
          store_some(x, out + c, lanes, streams_);
        }
      });
    }
  }

  // w[m] (dots[m] - sum_k w[k] dots[k]) for each sample, with dots [samples][M].
  void toward_logits(std::int64_t task, std::int64_t begin, std::int64_t end, const T* w,
                     const T* dots) {
    const std::int64_t tokens = values_.rows, width = weights_.width();
    T* sums = shared() ? parts_.of(0) + task * tokens : nullptr;
    if (sums != nullptr) std::fill_n(sums, tokens, T(0));
    for (std::int64_t s = 0; s < end - begin; ++s, dots += tokens) {
      T mean = 0;
      for (std::int64_t first = 0; first < tokens; first += kChain) {
        T part = 0;
        for (std::int64_t m = first; m < std::min(tokens, first + kChain); ++m) {
          part += w[m * width + s] * dots[m];
        }
        mean += part;
      }
      T* out = static_cast<T*>(args_.grad_logits) + (begin + s) * tokens;
      for (std::int64_t m = 0; m < tokens; ++m) {
        const T weight = w[m * width + s];
        const T x = weight == 0 ? 0 : weight * (dots[m] - mean);
        if (sums != nullptr) {
          sums[m] += x;
        } else {
          out[m] = x;
        }
      }
    }
  }

  const WeightedFusionBackwardArgs& args_;
  const MatrixView& values_;
  const Blocks blocks_;
  const Ahead<Source> ahead_;
  Weights<T> weights_;
  Scratch<T> grads_, dots_, parts_;
  const bool streams_;
};

}  // namespace

void weighted_fusion(const WeightedFusionArgs& args, const Executor& executor) {
  with_type(args.values.dtype, [&]<class Source>(Source*) { forward<Source>(args, executor); });
}

void weighted_fusion_backward(const WeightedFusionBackwardArgs& args, const Executor& executor) {
  with_type(args.forward.values.dtype,
            [&]<class Source>(Source*) { Backward<Source>(args, executor).run(executor); });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
