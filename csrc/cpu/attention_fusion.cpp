// attention_fusion over few tokens: every product of a sample is too small to be a matrix product.
//
// A task is a run of samples, cut into blocks that fit in the first-level cache. A block's rows are
// pointers, so that strides, dtypes and missing tokens end at head_rows.h. Its scores stand as
// [token][query], queries of all its samples and heads side by side: the softmax runs down the
// tokens with a vector of queries, however few tokens there are. The products run along the
// features (token_tiles.h). Bound: one read of query, key and value and one write of the result; at
// 4 tokens of 64 features the arithmetic is a fifth of that.
//
// The backward pass makes the softmax anew, which costs less than it would to keep it.
#include <algorithm>
#include <cmath>

#include "cpu/exp.h"
#include "cpu/head_rows.h"
#include "cpu/kernels.h"
#include "cpu/long_attention.h"
#include "cpu/philox.h"
#include "cpu/scratch.h"
#include "cpu/token_tiles.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

// Sizes of the work: all by the shapes, none by the threads.
struct Cut {
  template <class T>
  static Cut of(const AttentionFusionArgs& args, T*) {
    const std::int64_t queries = args.query.rows, tokens = args.key.rows, heads = args.num_heads;
    const std::int64_t features = (queries + tokens) * (args.key.columns + args.value.columns);
    const auto bytes = std::max<std::int64_t>(1, features) * static_cast<std::int64_t>(sizeof(T));
    Cut cut;
    const std::int64_t lanes = ceil_div(Vec<T>::kSize, std::max<std::int64_t>(1, heads * queries));
    cut.block = std::min<std::int64_t>(std::max(lanes, kBlockBytes / bytes), 64);
    const std::int64_t fair = ceil_div(args.key.batch, kTasks);
    cut.task = std::clamp(kTaskBytes / bytes, std::min(cut.block, kMostSamples), kMostSamples);
    cut.task = std::min(cut.task, std::max(cut.block, fair));
    // A task holds a sum of the gradient of a query that all samples share: as few as are fair.
    if (args.query.batch == 1)
      cut.task = std::clamp(fair, std::min(cut.block, kMostSamples), kMostSamples);
    cut.tasks = ceil_div(args.key.batch, cut.task);
    cut.stride = round_up(cut.block * heads * queries + kTileRows<T> - 1, Vec<T>::kSize);
    return cut;
  }

  std::int64_t block, task, tasks;  // samples of a block, samples of a task, tasks
  std::int64_t stride;              // scores of one token: of all queries of a block

 private:
  static constexpr std::int64_t kBlockBytes = 24 << 10, kTaskBytes = 256 << 10;
  static constexpr std::int64_t kMostSamples = 256;  // what a shared query's gradient adds in a row
  static constexpr std::int64_t kTasks = 64;
};

// Samples [begin, end) that are computed together; a unit is one head of one of them.
struct Block {
  std::int64_t begin, end, heads, queries;
  std::int64_t units() const { return (end - begin) * heads; }
  std::int64_t rows() const { return units() * queries; }
  std::int64_t first_row() const { return begin * heads * queries; }  // in [B, H, Q]

  // Calls f(unit, sample, head) for each.
  template <class F>
  void each_unit(F&& f) const {
    std::int64_t unit = 0;
    for (std::int64_t b = begin; b < end; ++b) {
      for (std::int64_t head = 0; head < heads; ++head) f(unit++, b, head);
    }
  }
};

// One side of a block: its pointers and what had to be copied.
template <class T>
class BlockRows {
 public:
  BlockRows(const MatrixView& side, std::int64_t heads, std::int64_t block, int workers)
      : heads_(heads),
        block_(block),
        rows_(side, heads),
        pointers_(workers, block * heads * side.rows),
        copies_(workers, block * rows_.scratch()) {}

  void gather(const Block& block, const MaskView& mask, const T* zeros, int worker) {
    const T** pointers = pointers_.of(worker);
    T* copies = copies_.of(worker);
    for (std::int64_t b = block.begin; b < block.end; ++b) {
      rows_.gather(b, b + block_, mask, zeros, pointers, copies);
      pointers += heads_ * rows_.rows();
      copies += rows_.scratch();
    }
  }
  RowPointers<T> of(std::int64_t unit, int worker) const {
    return pointers_.of(worker) + unit * rows_.rows();
  }
  std::int64_t count() const { return rows_.rows(); }
  std::int64_t width() const { return rows_.width(); }

 private:
  const std::int64_t heads_, block_;
  HeadRows<T> rows_;
  Scratch<const T*> pointers_;
  Scratch<T> copies_;
};

bool same_memory(const MatrixView& a, const MatrixView& b) {
  return a.data == b.data && a.columns == b.columns && a.batch_stride == b.batch_stride &&
         a.row_stride == b.row_stride && a.column_stride == b.column_stride;
}

// What both passes begin with: the rows of a block, and the scores of its queries with its tokens.
template <class T>
class Attention {
 public:
  Attention(const AttentionFusionArgs& args, const Executor& executor, int score_matrices)
      : args_(args),
        cut_(Cut::of(args, static_cast<T*>(nullptr))),
        query_(args.query, args.num_heads, cut_.block, executor.workers()),
        key_(args.key, args.num_heads, cut_.block, executor.workers()),
        value_is_key_(same_memory(args.key, args.value)),
        own_value_(args.value, args.num_heads, value_is_key_ ? 0 : cut_.block, executor.workers()),
        longest_(std::max(key_.width(), own_value_.width())),
        zeros_(1, longest_),
        waste_(executor.workers(), longest_),
        scores_(executor.workers(), score_matrices * matrix()),
        dropout_(args.dropout_p, args.seed) {
    std::fill_n(zeros_.of(0), longest_, T(0));
  }

  std::int64_t tasks() const { return cut_.tasks; }

 protected:
  using V = Vec<T>;

  // Calls f(block) for the blocks of a task.
  template <class F>
  void each_block(std::int64_t task, F&& f) {
    const std::int64_t end = std::min(args_.key.batch, (task + 1) * cut_.task);
    for (std::int64_t b = task * cut_.task; b < end; b += cut_.block) {
      f(Block{b, std::min(end, b + cut_.block), args_.num_heads, args_.query.rows});
    }
  }

  std::int64_t matrix() const { return args_.key.rows * cut_.stride; }
  T* scores(int worker, std::int64_t number) { return scores_.of(worker) + number * matrix(); }
  const T* zeros() const { return zeros_.of(0); }

  void gather(const Block& block, int worker) {
    query_.gather(block, args_.query_mask, zeros(), worker);
    key_.gather(block, args_.mask, zeros(), worker);
    if (!value_is_key_) own_value_.gather(block, args_.mask, zeros(), worker);
  }
  const BlockRows<T>& value() const { return value_is_key_ ? key_ : own_value_; }

  // out[m][q]: scaled products of every query, or incoming gradient, with the tokens of its unit.
  void products(const Block& block, const BlockRows<T>& left, const BlockRows<T>& right,
                double scale, T* out, int worker) const {
    for (std::int64_t u = 0; u < block.units(); ++u) {
      dots<T>({left.of(u, worker), left.count(), right.of(u, worker), right.count(), left.width(),
               static_cast<T>(scale), out + u * left.count(), cut_.stride});
    }
    for (std::int64_t m = 0; m < right.count(); ++m) {  // lanes beyond the last query
      std::fill(out + m * cut_.stride + block.rows(), out + (m + 1) * cut_.stride, T(0));
    }
  }

  // -inf where a token, or the query itself, is missing.
  void mask_scores(const Block& block, T* scores) const {
    const std::int64_t queries = block.queries, tokens = args_.key.rows;
    constexpr T kNone = -std::numeric_limits<T>::infinity();
    if (!args_.mask.present() && !args_.query_mask.present()) return;
    block.each_unit([&](std::int64_t u, std::int64_t b, std::int64_t) {
      T* unit = scores + u * queries;
      for (std::int64_t m = 0; args_.mask.present() && m < tokens; ++m) {
        const bool present = args_.mask(b, m);
        T* row = unit + m * cut_.stride;
        for (std::int64_t q = 0; q < queries; ++q) row[q] = present ? row[q] : kNone;
      }
      for (std::int64_t q = 0; args_.query_mask.present() && q < queries; ++q) {
        if (args_.query_mask(b, q)) continue;
        for (std::int64_t m = 0; m < tokens; ++m) unit[m * cut_.stride + q] = kNone;
      }
    });
  }

  // The softmax down the tokens, in place: zeros where nothing is present.
  void softmax(const Block& block, T* scores) const {
    const std::int64_t tokens = args_.key.rows, stride = cut_.stride;
    for (std::int64_t r = 0; r < block.rows(); r += V::kSize) {
      T* column = scores + r;
      V peak = V::broadcast(std::numeric_limits<T>::lowest());  // -inf less it is -inf, not NaN
      for (std::int64_t m = 0; m < tokens; ++m) {
        peak = maximum(peak, V::load(column + m * stride));
      }
      V total = V::broadcast(0);
      for (std::int64_t m = 0; m < tokens; ++m) {
        const V weight = exponential(V::load(column + m * stride) - peak);
        weight.store(column + m * stride);
        total = total + weight;
      }
      // The largest weight was 1, so only a total of nothing is below it.
      const V inverse = V::broadcast(1) / maximum(V::broadcast(1), total);
      for (std::int64_t m = 0; m < tokens; ++m) {
        (V::load(column + m * stride) * inverse).store(column + m * stride);
      }
    }
  }

  // factors[m][q] of a block's weights, 0 for those that are dropped.
  void dropout(const Block& block, T* factors) const {
    const std::int64_t tokens = args_.key.rows;
    constexpr std::int64_t kSome = 64;
    T some[kSome];
    for (std::int64_t r = 0; r < block.rows(); ++r) {
      for (std::int64_t m0 = 0; m0 < tokens; m0 += kSome) {
        const std::int64_t count = std::min(kSome, tokens - m0);
        dropout_.factors((block.first_row() + r) * tokens + m0, count, some);
        T* column = factors + m0 * cut_.stride + r;
        for (std::int64_t m = 0; m < count; ++m) column[m * cut_.stride] = some[m];
      }
    }
    for (std::int64_t m = 0; m < tokens; ++m) {
      std::fill(factors + m * cut_.stride + block.rows(), factors + (m + 1) * cut_.stride, T(0));
    }
  }

  const AttentionFusionArgs& args_;
  const Cut cut_;
  BlockRows<T> query_, key_;
  const bool value_is_key_;
  BlockRows<T> own_value_;
  const std::int64_t longest_;
  Scratch<T> zeros_, waste_, scores_;
  const Dropout dropout_;
};

// A result in blocks: where its rows go, and what has to be narrowed afterwards.
template <class T>
class BlockResult {
 public:
  BlockResult(const MatrixOutput& out, std::int64_t heads, int workers)
      : result_(out, heads), pointers_(workers, out.rows), copies_(workers, result_.scratch()) {}

  bool wanted() const { return result_.wanted(); }

  // result[i] = the sum of `terms`; zeros where `mask` says that row i of sample b is missing.
  template <class... Terms>
  void write(std::int64_t b, std::int64_t head, const MaskView& mask, T* waste, int worker,
             const Terms&... terms) {
    T** rows = pointers_.of(worker);
    result_.place(b, head, mask, waste, rows, copies_.of(worker));
    if (result_.streams()) {
      combine<true, T>(rows, result_.rows(), result_.width(), terms...);
    } else {
      combine<false, T>(rows, result_.rows(), result_.width(), terms...);
    }
    result_.finish(b, head, mask, copies_.of(worker));
  }

 private:
  HeadResult<T> result_;
  Scratch<T*> pointers_;
  Scratch<T> copies_;
};

template <class T>
class Forward : Attention<T> {
 public:
  using Base = Attention<T>;
  using Base::tasks;

  Forward(const AttentionFusionArgs& args, const Executor& executor)
      : Base(args, executor, args.dropout_p > 0 ? 2 : 1),
        out_(args.out, args.num_heads, executor.workers()) {}

  void run(std::int64_t task, int worker) {
    this->each_block(task, [&](const Block& block) { run_block(block, worker); });
    finish_streaming();
  }

 private:
  void run_block(const Block& block, int worker) {
    const auto& args = this->args_;
    T* scores = this->scores(worker, 0);
    std::fill_n(static_cast<T*>(args.log_sum) + block.first_row(), block.rows(), T(0));  // not kept
    this->gather(block, worker);
    this->products(block, this->query_, this->key_, args.scale, scores, worker);
    this->mask_scores(block, scores);
    this->softmax(block, scores);
    if (args.dropout_p > 0) {
      T* factors = this->scores(worker, 1);
      this->dropout(block, factors);
      for (std::int64_t i = 0; i < this->matrix(); ++i) scores[i] *= factors[i];
    }
    if (args.weights != nullptr) write_weights(block, scores);
    block.each_unit([&](std::int64_t u, std::int64_t b, std::int64_t head) {
      const Summands<T> values{scores + u * block.queries, 1, this->cut_.stride,
                               this->value().of(u, worker), this->value().count()};
      out_.write(b, head, {}, nullptr, worker, values);  // no mask: a missing query has weights 0
    });
  }

  void write_weights(const Block& block, const T* scores) const {
    const std::int64_t tokens = this->args_.key.rows;
    T* out = static_cast<T*>(this->args_.weights) + block.first_row() * tokens;
    for (std::int64_t r = 0; r < block.rows(); ++r) {
      for (std::int64_t m = 0; m < tokens; ++m) *out++ = scores[m * this->cut_.stride + r];
    }
  }

  BlockResult<T> out_;
};

template <class T>
class Backward : Attention<T> {
 public:
  using Base = Attention<T>;
  using Base::tasks;

  Backward(const AttentionFusionBackwardArgs& args, const Executor& executor)
      : Base(args.forward, executor, args.forward.dropout_p > 0 ? 3 : 2),
        backward_(args),
        grad_(args.grad, args.forward.num_heads, this->cut_.block, executor.workers()),
        shared_(args.forward.query.batch == 1 && args.query != nullptr),
        query_out_(like(args.forward.query, shared_ ? nullptr : args.query), args.forward.num_heads,
                   executor.workers()),
        key_out_(like(args.forward.key, args.key), args.forward.num_heads, executor.workers()),
        value_out_(like(args.forward.value, args.value), args.forward.num_heads,
                   executor.workers()),
        query_sums_(shared_ ? tasks() : 0, query_size()),
        query_rows_(executor.workers(), shared_ ? args.forward.query.rows * this->key_.width() : 0),
        query_row_pointers_(executor.workers(), args.forward.query.rows) {}

  void run(std::int64_t task, int worker) {
    if (shared_) std::fill_n(query_sums_.part(task), query_size(), T(0));
    this->each_block(task, [&](const Block& block) { run_block(task, block, worker); });
    finish_streaming();
  }

  void finish(const Executor& executor) {
    if (shared_) query_sums_.finish(backward_.query, this->args_.query.dtype, executor);
  }

 private:
  using V = Vec<T>;

  static MatrixOutput like(const MatrixView& side, void* data) {
    return {data, side.dtype, side.batch, side.rows, side.columns};
  }
  std::int64_t query_size() const { return this->args_.query.rows * this->args_.query.columns; }

  void run_block(std::int64_t task, const Block& block, int worker) {
    const auto& args = this->args_;
    T *weights = this->scores(worker, 0), *slopes = this->scores(worker, 1);
    this->gather(block, worker);
    grad_.gather(block, args.query_mask, this->zeros(), worker);
    this->products(block, this->query_, this->key_, args.scale, weights, worker);
    this->products(block, grad_, this->value(), 1, slopes, worker);
    this->mask_scores(block, weights);
    this->softmax(block, weights);
    if (backward_.grad_weights != nullptr) add_grad_weights(block, slopes);
    if (args.dropout_p > 0) {
      T* factors = this->scores(worker, 2);
      this->dropout(block, factors);
      softmax_backward<true>(block, weights, slopes, factors);
    } else {
      softmax_backward<false>(block, weights, slopes, nullptr);
    }
    block.each_unit([&](std::int64_t u, std::int64_t b, std::int64_t head) {
      write_unit(task, {u, b, head}, weights + u * block.queries, slopes + u * block.queries,
                 worker);
    });
  }

  void add_grad_weights(const Block& block, T* slopes) const {
    const std::int64_t tokens = this->args_.key.rows;
    const T* in = static_cast<const T*>(backward_.grad_weights) + block.first_row() * tokens;
    block.each_unit([&](std::int64_t u, std::int64_t b, std::int64_t) {
      for (std::int64_t q = 0; q < block.queries; ++q, in += tokens) {
        if (this->args_.query_mask.present() && !this->args_.query_mask(b, q)) continue;
        T* column = slopes + u * block.queries + q;
        for (std::int64_t m = 0; m < tokens; ++m) column[m * this->cut_.stride] += in[m];
      }
    });
  }

  // From the softmax and the gradient of what it was multiplied with to the weights that were
  // applied, and the gradient of the scores before their scale.
  template <bool kDropout>
  void softmax_backward(const Block& block, T* weights, T* slopes, const T* factors) const {
    const std::int64_t tokens = this->args_.key.rows, stride = this->cut_.stride;
    const V scale = V::broadcast(static_cast<T>(this->args_.scale));
    for (std::int64_t r = 0; r < block.rows(); r += V::kSize) {
      V mean = V::broadcast(0);
      for (std::int64_t m = 0; m < tokens; ++m) {
        const std::int64_t at = m * stride + r;
        if constexpr (kDropout) (V::load(slopes + at) * V::load(factors + at)).store(slopes + at);
        mean = fused_multiply_add(V::load(weights + at), V::load(slopes + at), mean);
      }
      for (std::int64_t m = 0; m < tokens; ++m) {
        const std::int64_t at = m * stride + r;
        const V weight = V::load(weights + at);
        (weight * (V::load(slopes + at) - mean) * scale).store(slopes + at);
        if constexpr (kDropout) (weight * V::load(factors + at)).store(weights + at);
      }
    }
  }

  struct Unit {
    std::int64_t number, sample, head;
  };

  void write_unit(std::int64_t task, Unit unit, const T* weights, const T* slopes, int worker) {
    const auto& args = this->args_;
    const auto [u, b, head] = unit;
    const std::int64_t stride = this->cut_.stride;
    T* waste = this->waste_.of(worker);
    const Summands<T> keys{slopes, 1, stride, this->key_.of(u, worker), this->key_.count()};
    if (shared_) add_shared_query(task, head, keys, worker);
    if (query_out_.wanted()) query_out_.write(b, head, args.query_mask, waste, worker, keys);
    const Summands<T> queries{slopes, stride, 1, this->query_.of(u, worker), this->query_.count()};
    const Summands<T> grads{weights, stride, 1, grad_.of(u, worker), grad_.count()};
    if (key_out_.wanted() && backward_.value_is_key) {
      key_out_.write(b, head, args.mask, waste, worker, queries, grads);
    } else if (key_out_.wanted()) {
      key_out_.write(b, head, args.mask, waste, worker, queries);
    }
    if (value_out_.wanted()) value_out_.write(b, head, args.mask, waste, worker, grads);
  }

  // A missing query has slopes 0 and adds nothing.
  void add_shared_query(std::int64_t task, std::int64_t head, const Summands<T>& keys, int worker) {
    const std::int64_t width = this->key_.width(), columns = this->args_.query.columns;
    const std::int64_t exact = columns / this->args_.num_heads;
    T** rows = query_row_pointers_.of(worker);
    for (std::int64_t q = 0; q < this->args_.query.rows; ++q) {
      rows[q] = query_rows_.of(worker) + q * width;
    }
    combine<false, T>(rows, this->args_.query.rows, width, keys);
    T* sums = query_sums_.part(task) + head * exact;
    for (std::int64_t q = 0; q < this->args_.query.rows; ++q, sums += columns) {
      for (std::int64_t d = 0; d < exact; ++d) sums[d] += rows[q][d];
    }
  }

  const AttentionFusionBackwardArgs& backward_;
  BlockRows<T> grad_;
  const bool shared_;
  BlockResult<T> query_out_, key_out_, value_out_;
  SharedSums<T> query_sums_;
  Scratch<T> query_rows_;
  Scratch<T*> query_row_pointers_;
};

}  // namespace

void attention_fusion(const AttentionFusionArgs& args, const Executor& executor) {
  if (is_long_attention(args.query.rows, args.key.rows)) return long_attention(args, executor);
  if (args.out.batch == 0 || args.out.rows == 0) return;
  with_accumulator(args.key.dtype, [&]<class T>(T*) {
    Forward<T> forward(args, executor);
    executor.run(forward.tasks(), [&](std::int64_t t, int worker) { forward.run(t, worker); });
  });
}

void attention_fusion_backward(const AttentionFusionBackwardArgs& args, const Executor& executor) {
  if (is_long_attention(args.forward.query.rows, args.forward.key.rows)) {
    return long_attention_backward(args, executor);
  }
  with_accumulator(args.forward.key.dtype, [&]<class T>(T*) {
    Backward<T> backward(args, executor);
    executor.run(backward.tasks(), [&](std::int64_t t, int worker) { backward.run(t, worker); });
    backward.finish(executor);
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
