// long_attention_backward: the scores once more, their softmax P by the log-sum-exp of the forward
// pass, and the gradient toward them, which is
//   G = scale P (factor (grad . value + grad_weight) - delta),
// factor being what the dropout multiplies by, and delta a query's incoming gradient times its
// result, plus its weights times theirs.
//
// A task is a run of queries of one head, of one sample or, where all samples share the queries, of
// some samples in turn. A block of tokens is packed and meets a group of queries, with all products
// of G and P made where they stand. What goes to tokens is summed up over the groups; a run's sums
// are a part, and parts are added in ascending order. The cut depends on the shapes alone. Few
// queries meet the tokens row by row, unpacked, and the gradients of tokens are written at once.
// Bound: 5 products, 10 Q M D operations, and Q M exponentials.
#include <tuple>

#include "cpu/long_attention.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

template <class T>
class LongBackward {
 public:
  LongBackward(const AttentionFusionBackwardArgs& backward, const Executor& executor)
      : backward_(backward),
        args_(backward.forward),
        executor_(executor),
        heads_(args_, kBlockBytes),
        width_(round_up(heads_.depth, kWidth)),
        key_width_(backward.key == nullptr ? 0 : width_),
        value_width_(backward.value == nullptr ? 0 : heads_.value_width),
        edited_(args_.dropout_p > 0 || backward.grad_weights != nullptr),
        shared_(args_.query.batch == 1 && heads_.batch != 1),
        samples_(shared_ ? std::clamp<std::int64_t>(heads_.batch / kTasks, 1, kChain) : 1),
        batches_(ceil_div(heads_.batch, samples_)),
        runs_(count_parts()),
        run_rows_(round_up(ceil_div(heads_.queries, runs_), kHeight)),
        // Few queries are one group, however wide: what they meet is finished in one block.
        group_rows_(heads_.few ? run_rows_ : even_part(run_rows_, heads_.most_rows, kHeight)),
        block_rows_(even_part(group_rows_, kBlockRows, kHeight)),
        // With one group, a block of tokens is finished when the group has met it.
        keeps_sums_(runs_ > 1 || run_rows_ > group_rows_),
        sum_rows_(keeps_sums_ ? heads_.tokens : heads_.block_columns),
        dropout_(args_.dropout_p, args_.seed),
        few_(heads_, executor.workers()),
        key_gradient_(backward.key, args_.key, heads_.heads),
        value_gradient_(backward.value, args_.value, heads_.heads),
        present_queries_(args_.query_mask, heads_.batch, heads_.queries, executor),
        present_tokens_(args_.mask, heads_.batch, heads_.tokens, executor),
        parts_(
            runs_ == 1 ? executor.workers() : static_cast<int>(heads_.batch * heads_.heads * runs_),
            sum_rows_ * (key_width_ + value_width_)),
        shared_sums_(shared_ && backward.query != nullptr ? batches_ : 0,
                     heads_.queries * args_.query.columns) {}

  void run() {
    const int workers = executor_.workers();
    const std::int64_t columns = heads_.block_columns, padded = round_up(columns, kWidth);
    Scratch<T> queries(workers, group_rows_ * query_elements());
    Scratch<T> tokens(workers, padded * (heads_.depth + width_ + heads_.value_depth));
    Scratch<T> blocks(workers, (edited_ ? 4 : 2) * kBlockSize);
    shared_sums_.start(executor_);
    executor_.run(batches_ * heads_.heads * runs_, [&](std::int64_t task, int worker) {
      Work work;
      work.worker = worker;
      work.queries = Queries(queries.of(worker), *this);
      work.panels = tokens.of(worker);
      work.values = work.panels + padded * heads_.depth;
      work.tokens = {work.values + padded * heads_.value_depth, columns};
      if (backward_.value_is_key) work.values = work.panels;
      work.softmax = blocks.of(worker);
      work.gradient = work.softmax + kBlockSize;
      work.weights = edited_ ? work.gradient + kBlockSize : work.softmax;
      work.extra = work.weights + kBlockSize;
      work.h = task / runs_ % heads_.heads;
      const std::int64_t batch = task / runs_ / heads_.heads;
      work.shared = shared_sums_.part(batch);
      const std::int64_t end = std::min(heads_.batch, (batch + 1) * samples_);
      for (work.b = batch * samples_; work.b < end; ++work.b) {
        work.sums = part(runs_ == 1 ? worker : task);
        run_sample(work, task % runs_);
      }
      finish_streaming();
    });
    if (runs_ > 1) merge();
    if (shared_ && backward_.query != nullptr) {
      shared_sums_.finish(backward_.query, args_.query.dtype, executor_);
    }
  }

 private:
  using V = Vec<T>;
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  static constexpr int kVectors = Tile<T>::kVectors;
  static constexpr std::int64_t kBlockBytes = 64 * 1024;  // of packed tokens, or queries
  static constexpr std::int64_t kLeastRows = 160, kTasks = 64;
  static constexpr std::int64_t kPartRows =
      2;  // times queries and tokens: the most that parts take

  // A group of queries, packed for both kinds of products, with their incoming gradients.
  struct Queries {
    Queries() = default;
    Queries(T* data, const LongBackward& of) {
      const std::int64_t rows = of.group_rows_;
      const auto take = [&](std::int64_t width) {
        T* const taken = data;
        data += rows * width;
        return taken;
      };
      panels = take(of.heads_.depth);
      grads = take(of.heads_.value_depth);
      rows_of_queries = {take(of.width_), rows};
      rows_of_grads = {take(of.heads_.value_width), rows};
      sums = take(of.width_);
      log_sum = take(1);
      delta = take(1);
    }
    T *panels, *grads;
    RowPanels<T> rows_of_queries, rows_of_grads;
    T *sums, *log_sum, *delta;
  };

  // Sums of the gradients of tokens, as they are and as values.
  struct Sums {
    T *keys, *values;
  };

  struct Work {
    int worker;
    std::int64_t b, h;
    PresentTokens rows, columns;
    std::int64_t i0, i1;  // the group, of the queries present
    Queries queries;
    T *panels, *values;  // a block of tokens, packed
    RowPanels<T> tokens;
    T *softmax, *gradient;  // P and G
    T *weights, *extra;     // P after dropout, the factors at first; gradients of the weights
    Sums sums;
    RowPointers<T> query_rows, grad_rows, key_rows, value_rows;  // as well, where they are few
    T* shared;  // where the gradient of shared queries goes
  };

  std::int64_t query_elements() const {
    return heads_.depth + heads_.value_depth + 2 * width_ + heads_.value_width + 2;
  }

  std::int64_t count_parts() const {
    const std::int64_t most =
        kPartRows * (heads_.queries + heads_.tokens) / std::max<std::int64_t>(heads_.tokens, 1);
    return std::clamp<std::int64_t>(count_runs(batches_ * heads_.heads, heads_.queries, kLeastRows),
                                    1, std::max<std::int64_t>(most, 1));
  }

  Sums part(std::int64_t number) const {
    T* data = parts_.of(static_cast<int>(number));
    return {data, data + sum_rows_ * key_width_};
  }

  void run_sample(Work& work, std::int64_t run) {
    work.rows = present_queries_.of(work.b);
    work.columns = present_tokens_.of(work.b);
    if (run == 0) clear(work.b, work.h);
    if (keeps_sums_) start_sums(work, work.columns.count);
    const std::int64_t begin = std::min(work.rows.count, run * run_rows_);
    const std::int64_t end = std::min(work.rows.count, begin + run_rows_);
    work.i0 = begin;
    do {  // once without queries, too: tokens get their zeros
      work.i1 = std::min(end, work.i0 + group_rows_);
      run_group(work);
      work.i0 = work.i1;
    } while (work.i0 < end);
    if (runs_ == 1 && keeps_sums_) finish_tokens(work, 0, work.columns.count);
  }

  void start_sums(Work& work, std::int64_t columns) const {
    std::fill_n(work.sums.keys, columns * key_width_, T(0));
    std::fill_n(work.sums.values, columns * value_width_, T(0));
  }

  void run_group(Work& work) {
    const std::int64_t count = work.i1 - work.i0;
    pack_queries(work);
    if (backward_.grad_weights != nullptr) add_weight_products(work);
    for (std::int64_t p = 0; p < work.columns.count; p += heads_.block_columns) {
      const std::int64_t columns = std::min(heads_.block_columns, work.columns.count - p);
      pack_columns_of(work, p, columns);
      if (heads_.few) {
        write_gradients(work, 0, count, p, columns);
        add_few_products(work, count, p, columns);
        continue;
      }
      if (!keeps_sums_) start_sums(work, columns);
      for (std::int64_t r = 0; r < count; r += block_rows_) {
        const std::int64_t rows = std::min(block_rows_, count - r);
        write_gradients(work, r, rows, p, columns);
        add_products(work, r, rows, keeps_sums_ ? p : 0, columns);
      }
      if (!keeps_sums_) finish_tokens(work, p, columns);
    }
    for (std::int64_t r = 0; r < count; ++r) finish_query(work, r);
  }

  void pack_queries(Work& work) {
    const std::int64_t count = work.i1 - work.i0, padded = round_up(count, kHeight);
    const MatrixView query = heads_.query(work.h), grad = heads_.head(backward_.grad, work.h);
    Queries& to = work.queries;
    pack_tokens<kHeight>(query, work.b, work.rows, work.i0, work.i1, to.panels);
    pack_tokens<kHeight>(grad, work.b, work.rows, work.i0, work.i1, to.grads);
    copy_tokens(query, work.b, work.rows, work.i0, work.i1, to.rows_of_queries);
    copy_tokens(grad, work.b, work.rows, work.i0, work.i1, to.rows_of_grads);
    if (heads_.few) {
      const auto [b, i0, i1] = std::tuple(work.b, work.i0, work.i1);
      work.query_rows = few_.gather(2, query, b, work.rows, i0, i1, work.worker);
      work.grad_rows = few_.gather(3, grad, b, work.rows, i0, i1, work.worker);
    }
    std::fill_n(to.sums, count * width_, T(0));
    std::fill(to.log_sum + count, to.log_sum + padded, std::numeric_limits<T>::infinity());
    std::fill(to.delta + count, to.delta + padded, T(0));
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t q = work.rows(work.i0 + r);
      const std::int64_t at = (work.b * heads_.queries + q) * args_.out.columns;
      to.log_sum[r] = static_cast<const T*>(args_.log_sum)[heads_.row(work.b, work.h, q)];
      to.delta[r] =
          product_with_row(args_.out.data, args_.out.dtype, at + work.h * heads_.value_depth,
                           heads_.value_depth, to.rows_of_grads, r);
    }
  }

  void pack_columns_of(Work& work, std::int64_t p, std::int64_t columns) {
    const std::int64_t end = p + columns;
    if (heads_.few) {
      const PresentTokens& tokens = work.columns;
      work.key_rows = few_.gather(0, heads_.key(work.h), work.b, tokens, p, end, work.worker);
      work.value_rows = few_.gather(1, heads_.value(work.h), work.b, tokens, p, end, work.worker);
      return;
    }
    pack_tokens<kWidth>(heads_.key(work.h), work.b, work.columns, p, end, work.panels);
    if (!backward_.value_is_key) {
      pack_tokens<kWidth>(heads_.value(work.h), work.b, work.columns, p, end, work.values);
    }
    if (backward_.query != nullptr) {
      copy_tokens(heads_.key(work.h), work.b, work.columns, p, end, work.tokens);
    }
  }

  // The part of delta that comes with gradients of the weights.
  void add_weight_products(Work& work) {
    for (std::int64_t p = 0; p < work.columns.count; p += heads_.block_columns) {
      const std::int64_t columns = std::min(heads_.block_columns, work.columns.count - p);
      pack_columns_of(work, p, columns);
      for (std::int64_t r = 0; r < work.i1 - work.i0; r += block_rows_) {
        const std::int64_t rows = std::min(block_rows_, work.i1 - work.i0 - r);
        gather_edits(work, r, rows, p, columns);
        write_softmax(work, r, rows, columns);
        for (std::int64_t i = 0; i < rows; ++i) {
          const std::int64_t at = i * kBlockStride;
          T sum = 0;
          for (std::int64_t c = at; c < at + columns; ++c) {
            sum += work.softmax[c] * work.weights[c] * work.extra[c];
          }
          work.queries.delta[r + i] += sum;
        }
      }
    }
  }

  // The dropout's factors and the gradients of the weights of a block.
  void gather_edits(Work& work, std::int64_t r, std::int64_t rows, std::int64_t p,
                    std::int64_t columns) const {
    const T* grads = static_cast<const T*>(backward_.grad_weights);
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::int64_t query = work.rows(work.i0 + r + i);
      const std::int64_t first = heads_.row(work.b, work.h, query) * heads_.tokens;
      T* factors = work.weights + i * kBlockStride;
      T* extra = work.extra + i * kBlockStride;
      if (args_.dropout_p > 0) {
        dropout_factors(dropout_, first, work.columns, p, columns, factors);
      } else {
        std::fill_n(factors, columns, T(1));
      }
      for (std::int64_t c = 0; c < columns; ++c) {
        extra[c] = grads == nullptr ? T(0) : grads[first + work.columns(p + c)];
      }
    }
  }

  // P of a block.
  [[gnu::noinline]] void write_softmax(Work& work, std::int64_t r, std::int64_t rows,
                                       std::int64_t columns) const {
    const V scale = V::broadcast(static_cast<T>(args_.scale));
    const T* log_sums = work.queries.log_sum + r;
    if (heads_.few) {
      write_few_products(work.query_rows, rows, work.key_rows, columns, heads_.row_width, T(1),
                         work.softmax);
      each_vector(rows, columns, [&](std::int64_t i, std::int64_t at) {
        const V score = V::load(work.softmax + at) * scale;
        exponential(score - V::broadcast(log_sums[i])).store(work.softmax + at);
      });
      return;
    }
    each_tile(
        work.queries.panels + r * heads_.depth, rows, work.panels, columns, heads_.depth,
        [&]<int kRows>(std::int64_t i, int, std::int64_t c, V(&x)[kRows][kVectors]) {
          T* out = work.softmax + i * kBlockStride + c;
#pragma GCC unroll 12
          for (int k = 0; k < kRows; ++k) {
            const V log_sum = V::broadcast(log_sums[i + k]);
            for (int j = 0; j < kVectors; ++j) {
              exponential(x[k][j] * scale - log_sum).store(out + k * kBlockStride + j * V::kSize);
            }
          }
        });
  }

  // Calls body(row, place) for every vector of a block.
  template <class F>
  static void each_vector(std::int64_t rows, std::int64_t columns, F&& body) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t c = 0; c < columns; c += V::kSize) body(i, i * kBlockStride + c);
    }
  }

  // G of a block whose P stands; kEdited: with dropout or gradients of the weights.
  template <bool kEdited>
  [[gnu::noinline]] void write_gradient(Work& work, std::int64_t r, std::int64_t rows,
                                        std::int64_t columns) const {
    const T* deltas = work.queries.delta + r;
    if (heads_.few) {
      write_few_products(work.grad_rows, rows, work.value_rows, columns, heads_.value_row_width,
                         T(1), work.gradient);
      each_vector(rows, columns, [&](std::int64_t i, std::int64_t at) {
        write_slope<kEdited>(work, at, V::load(work.gradient + at), V::broadcast(deltas[i]));
      });
      return;
    }
    each_tile(work.queries.grads + r * heads_.value_depth, rows, work.values, columns,
              heads_.value_depth,
              [&]<int kRows>(std::int64_t i, int, std::int64_t c, V(&x)[kRows][kVectors]) {
#pragma GCC unroll 12
                for (int k = 0; k < kRows; ++k) {
                  const V delta = V::broadcast(deltas[i + k]);
                  for (int j = 0; j < kVectors; ++j) {
                    const std::int64_t at = (i + k) * kBlockStride + c + j * V::kSize;
                    write_slope<kEdited>(work, at, x[k][j], delta);
                  }
                }
              });
  }

  // G at `at`, from the product of an incoming gradient with a value.
  template <bool kEdited>
  [[gnu::always_inline]] void write_slope(Work& work, std::int64_t at, V slope, V delta) const {
    const V softmax = V::load(work.softmax + at);
    if constexpr (kEdited) {
      const V factor = V::load(work.weights + at);
      slope = (slope + V::load(work.extra + at)) * factor;
      (softmax * factor).store(work.weights + at);
    }
    (softmax * V::broadcast(static_cast<T>(args_.scale)) * (slope - delta))
        .store(work.gradient + at);
  }

  void write_gradients(Work& work, std::int64_t r, std::int64_t rows, std::int64_t p,
                       std::int64_t columns) const {
    if (edited_) gather_edits(work, r, rows, p, columns);
    write_softmax(work, r, rows, columns);
    if (edited_) {
      write_gradient<true>(work, r, rows, columns);
    } else {
      write_gradient<false>(work, r, rows, columns);
    }
  }

  void add_products(Work& work, std::int64_t r, std::int64_t rows, std::int64_t p,
                    std::int64_t columns) const {
    const Queries& queries = work.queries;
    T* const keys = work.sums.keys + p * key_width_;
    if (backward_.query != nullptr) {
      add_toward_rows(work.gradient, rows, columns, work.tokens, 0, width_,
                      queries.sums + r * width_);
    }
    if (backward_.key != nullptr) {
      add_toward_columns(work.gradient, rows, columns, queries.rows_of_queries, r, width_, keys);
    }
    if (backward_.key != nullptr && backward_.value_is_key) {
      add_toward_columns(work.weights, rows, columns, queries.rows_of_grads, r, width_, keys);
    } else if (backward_.value != nullptr) {
      add_toward_columns(work.weights, rows, columns, queries.rows_of_grads, r, value_width_,
                         work.sums.values + p * value_width_);
    }
  }

  // The same for few queries, which meet a block of tokens once.
  void add_few_products(Work& work, std::int64_t rows, std::int64_t p, std::int64_t columns) {
    if (backward_.query != nullptr) {
      add_few_toward_rows(work.gradient, rows, work.key_rows, columns, heads_.row_width,
                          work.queries.sums, width_, few_.sums(work.worker));
    }
    const auto [b, h, tokens] = std::tuple(work.b, work.h, work.columns);
    const Summands<T> keys{work.gradient, 1, kBlockStride, work.query_rows, rows};
    const Summands<T> values{work.weights, 1, kBlockStride, work.grad_rows, rows};
    if (backward_.key != nullptr && backward_.value_is_key) {
      key_gradient_.write(b, h, tokens, p, columns, work.sums.keys, keys, values);
    } else if (backward_.key != nullptr) {
      key_gradient_.write(b, h, tokens, p, columns, work.sums.keys, keys);
    }
    if (backward_.value != nullptr) {
      value_gradient_.write(b, h, tokens, p, columns, work.sums.values, values);
    }
  }

  void finish_query(const Work& work, std::int64_t r) const {
    if (backward_.query == nullptr) return;
    const T* sums = work.queries.sums + r * width_;
    const std::int64_t query = work.rows(work.i0 + r), columns = args_.query.columns;
    if (shared_) {
      T* to = work.shared + query * columns + work.h * heads_.depth;
      for (std::int64_t d = 0; d < heads_.depth; ++d) to[d] += sums[d];
      return;
    }
    write_row(backward_.query, args_.query.dtype,
              (work.b * heads_.queries + query) * columns + work.h * heads_.depth, heads_.depth,
              sums, T(1));
  }

  // Tokens [p, p + columns) of those present, whose sums begin with them or with token 0.
  void finish_tokens(const Work& work, std::int64_t p, std::int64_t columns) const {
    for (std::int64_t c = 0; c < columns; ++c) {
      finish_token(work.b, work.h, work.columns(p + c), work.sums, keeps_sums_ ? p + c : c);
    }
  }

  void finish_token(std::int64_t b, std::int64_t h, std::int64_t token, const Sums& from,
                    std::int64_t at) const {
    const auto write = [&](void* out, const MatrixView& side, std::int64_t depth, const T* sums) {
      if (out == nullptr) return;
      write_row(out, side.dtype, (b * heads_.tokens + token) * side.columns + h * depth, depth,
                sums, T(1));
    };
    write(backward_.key, args_.key, heads_.depth, from.keys + at * key_width_);
    write(backward_.value, args_.value, heads_.value_depth, from.values + at * value_width_);
  }

  // The gradients of what is missing.
  void clear(std::int64_t b, std::int64_t h) const {
    const std::int64_t depth = heads_.depth, value_depth = heads_.value_depth;
    clear_missing(args_.mask, b, args_.key, backward_.key, args_.key.columns, h * depth, depth);
    clear_missing(args_.mask, b, args_.value, backward_.value, args_.value.columns, h * value_depth,
                  value_depth);
    if (shared_) return;
    clear_missing(args_.query_mask, b, args_.query, backward_.query, args_.query.columns, h * depth,
                  depth);
  }

  void merge() const {
    const std::int64_t units = heads_.batch * heads_.heads;
    each_token(executor_, units, heads_.heads, present_tokens_,
               [&](std::int64_t unit, std::int64_t p, std::int64_t token) {
                 const Sums into = part(unit * runs_);
                 for (std::int64_t run = 1; run < runs_; ++run) {
                   const Sums from = part(unit * runs_ + run);
                   add_to(into.keys + p * key_width_, from.keys + p * key_width_, key_width_);
                   add_to(into.values + p * value_width_, from.values + p * value_width_,
                          value_width_);
                 }
                 finish_token(unit / heads_.heads, unit % heads_.heads, token, into, p);
               });
  }

  const AttentionFusionBackwardArgs& backward_;
  const AttentionFusionArgs& args_;
  const Executor& executor_;
  const AttentionHeads<T> heads_;
  const std::int64_t width_;                    // of a head's keys, in whole panels
  const std::int64_t key_width_, value_width_;  // of the sums of tokens; 0 where not wanted
  const bool edited_, shared_;
  const std::int64_t samples_, batches_;  // shared queries: of a task; tasks of a head
  const std::int64_t runs_, run_rows_, group_rows_, block_rows_;
  const bool keeps_sums_;
  const std::int64_t sum_rows_;
  const Dropout dropout_;
  FewRows<T> few_;
  const TokenGradient<T> key_gradient_, value_gradient_;
  const Presence present_queries_, present_tokens_;
  mutable Scratch<T> parts_;
  SharedSums<T> shared_sums_;
};

}  // namespace

void long_attention_backward(const AttentionFusionBackwardArgs& args, const Executor& executor) {
  with_accumulator(args.forward.key.dtype,
                   [&]<class T>(T*) { LongBackward<T>(args, executor).run(); });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
