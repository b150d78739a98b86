// long_attention: softmax(scale * query key^T) value in heads, a block of scores at a time.
//
// A task is a group of queries of one head of one sample. A block of tokens is packed and meets all
// queries of the group: scores become exponentials under the peaks seen so far, and are multiplied
// with the values. Where a peak rises, what was summed up under it is scaled (FlashAttention: Dao
// et al. 2022). Weights that are asked for come from the scores once more, when the totals are
// known. Bound: 2 products, 4 Q M D operations, and Q M exponentials.
#include "cpu/long_attention.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

template <class T>
class LongForward {
 public:
  LongForward(const AttentionFusionArgs& args, const Executor& executor)
      : args_(args),
        executor_(executor),
        heads_(args, kBlockBytes),
        groups_(heads_.few ? 1
                           : std::max(ceil_div(heads_.queries, heads_.most_rows),
                                      count_runs(heads_.batch * heads_.heads, heads_.queries,
                                                 kLeastRows))),
        group_rows_(even_part(heads_.queries, ceil_div(heads_.queries, groups_), kHeight)),
        block_rows_(even_part(group_rows_, kBlockRows, kHeight)),
        dropout_(args.dropout_p, args.seed),
        few_(heads_, executor.workers()),
        present_queries_(args.query_mask, heads_.batch, heads_.queries, executor),
        present_tokens_(args.mask, heads_.batch, heads_.tokens, executor) {}

  void run() {
    const int workers = executor_.workers();
    const std::int64_t columns = heads_.block_columns, width = heads_.value_width;
    Scratch<T> queries(workers, group_rows_ * heads_.depth),
        panels(workers, columns * heads_.depth);
    Scratch<T> values(workers, columns * width), block(workers, kBlockSize);
    Scratch<T> peaks(workers, group_rows_), totals(workers, group_rows_ * V::kSize);
    Scratch<T> sums(workers, group_rows_ * width);
    executor_.run(heads_.batch * heads_.heads * groups_, [&](std::int64_t task, int worker) {
      Work work;
      work.worker = worker;
      work.b = task / groups_ / heads_.heads;
      work.h = task / groups_ % heads_.heads;
      work.rows = present_queries_.of(work.b);
      work.columns = present_tokens_.of(work.b);
      work.queries = queries.of(worker);
      work.panels = panels.of(worker);
      work.values = {values.of(worker), columns};
      work.block = block.of(worker);
      work.running = {peaks.of(worker), totals.of(worker), sums.of(worker), width};
      run_task(work, task % groups_ * group_rows_);
    });
  }

 private:
  using V = Vec<T>;
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  static constexpr std::int64_t kBlockBytes = 96 * 1024;  // of packed tokens, or queries
  static constexpr std::int64_t kLeastRows = 120;         // of a group

  struct Work {
    int worker;
    std::int64_t b, h;
    std::int64_t i0, i1;  // the group, of the queries present
    PresentTokens rows, columns;
    T *queries, *panels;  // the group, packed; a block of tokens, packed
    RowPanels<T> values;
    T* block;  // scores, becoming exponentials
    RunningRows<T> running;
    RowPointers<T> query_rows, key_rows;  // instead, where they are few
  };

  void run_task(Work& work, std::int64_t begin) {
    if (begin == 0) clear(work.b, work.h);
    work.i0 = std::min(work.rows.count, begin);
    work.i1 = std::min(work.rows.count, begin + group_rows_);
    if (work.i0 == work.i1) return;
    load_queries(work);
    work.running.start(work.i1 - work.i0);
    for (std::int64_t p = 0; p < work.columns.count; p += heads_.block_columns) {
      const std::int64_t end = std::min(work.columns.count, p + heads_.block_columns);
      load_keys(work, p, end);
      if (!heads_.few) {
        copy_tokens(heads_.value(work.h), work.b, work.columns, p, end, work.values);
      }
      each_block(work, [&](std::int64_t r, std::int64_t rows) {
        score(work, r, rows, end - p);
        exponentiate(work, r, rows, p, end - p);
        heads_.few ? add_few(work, p, end)
                   : add_toward_rows(work.block, rows, end - p, work.values, 0, heads_.value_width,
                                     work.running.sums + r * heads_.value_width);
      });
    }
    for (std::int64_t r = 0; r < work.i1 - work.i0; ++r) finish(work, r);
    if (args_.weights != nullptr) write_weights(work);
  }

  // Calls body(r, rows) for the blocks of the group.
  template <class F>
  void each_block(const Work& work, F&& body) const {
    const std::int64_t count = work.i1 - work.i0;
    for (std::int64_t r = 0; r < count; r += block_rows_) body(r, std::min(block_rows_, count - r));
  }

  void load_queries(Work& work) {
    const MatrixView query = heads_.query(work.h);
    if (heads_.few) {
      work.query_rows = few_.gather(2, query, work.b, work.rows, work.i0, work.i1, work.worker);
    } else {
      pack_tokens<kHeight>(query, work.b, work.rows, work.i0, work.i1, work.queries);
    }
  }

  void load_keys(Work& work, std::int64_t p, std::int64_t end) {
    const MatrixView key = heads_.key(work.h);
    if (heads_.few) {
      work.key_rows = few_.gather(0, key, work.b, work.columns, p, end, work.worker);
    } else {
      pack_tokens<kWidth>(key, work.b, work.columns, p, end, work.panels);
    }
  }

  void score(Work& work, std::int64_t r, std::int64_t rows, std::int64_t columns) const {
    const T scale = static_cast<T>(args_.scale);
    if (heads_.few) {
      write_few_products(work.query_rows, rows, work.key_rows, columns, heads_.row_width, scale,
                         work.block);
    } else {
      write_scores<false>(work.queries + r * heads_.depth, rows, work.panels, columns, heads_.depth,
                          scale, static_cast<T*>(nullptr), work.block);
    }
  }

  void add_few(Work& work, std::int64_t p, std::int64_t end) {
    const RowPointers<T> values =
        few_.gather(1, heads_.value(work.h), work.b, work.columns, p, end, work.worker);
    add_few_toward_rows(work.block, work.i1 - work.i0, values, end - p, heads_.value_row_width,
                        work.running.sums, heads_.value_width, few_.sums(work.worker));
  }

  std::int64_t first_weight(const Work& work, std::int64_t r) const {
    return heads_.row(work.b, work.h, work.rows(work.i0 + r)) * heads_.tokens;
  }

  [[gnu::noinline]] void exponentiate(Work& work, std::int64_t r0, std::int64_t rows,
                                      std::int64_t p, std::int64_t columns) const {
    for (std::int64_t r = r0; r < r0 + rows; ++r) {
      T* scores = work.block + (r - r0) * kBlockStride;
      work.running.raise(r, scores, columns);
      const V peak = V::broadcast(work.running.peaks[r]);
      V total = V::load(work.running.totals + r * V::kSize);
      for (std::int64_t c = 0; c < columns; c += V::kSize) {
        const V weight = exponential(V::load(scores + c) - peak);
        total = total + weight;
        weight.store(scores + c);
      }
      total.store(work.running.totals + r * V::kSize);
      if (args_.dropout_p > 0) drop(work, r, p, columns, scores);
    }
  }

  void drop(const Work& work, std::int64_t r, std::int64_t p, std::int64_t columns,
            T* weights) const {
    T factors[kBlockColumns];
    dropout_factors(dropout_, first_weight(work, r), work.columns, p, columns, factors);
    for (std::int64_t c = 0; c < columns; ++c) weights[c] *= factors[c];
  }

  void finish(const Work& work, std::int64_t r) const {
    const std::int64_t query = work.rows(work.i0 + r);
    const T total = work.running.total(r);
    static_cast<T*>(args_.log_sum)[heads_.row(work.b, work.h, query)] =
        log_sum(work.running.peaks[r], total);
    const std::int64_t at = (work.b * heads_.queries + query) * args_.out.columns;
    write_row(args_.out.data, args_.out.dtype, at + work.h * heads_.value_depth, heads_.value_depth,
              work.running.sums + r * heads_.value_width, total == T(0) ? T(0) : 1 / total);
  }

  void write_weights(Work& work) {
    if (work.columns.count < heads_.tokens) {
      for (std::int64_t r = 0; r < work.i1 - work.i0; ++r) {
        std::fill_n(static_cast<T*>(args_.weights) + first_weight(work, r), heads_.tokens, T(0));
      }
    }
    for (std::int64_t p = 0; p < work.columns.count; p += heads_.block_columns) {
      const std::int64_t end = std::min(work.columns.count, p + heads_.block_columns);
      load_keys(work, p, end);
      each_block(work, [&](std::int64_t r, std::int64_t rows) {
        score(work, r, rows, end - p);
        for (std::int64_t i = r; i < r + rows; ++i) {
          write_weights(work, i, p, end - p, work.block + (i - r) * kBlockStride);
        }
      });
    }
  }

  void write_weights(const Work& work, std::int64_t r, std::int64_t p, std::int64_t columns,
                     T* scores) const {
    const T* log_sums = static_cast<const T*>(args_.log_sum);
    const V log_sum = V::broadcast(log_sums[heads_.row(work.b, work.h, work.rows(work.i0 + r))]);
    for (std::int64_t c = 0; c < columns; c += V::kSize) {
      exponential(V::load(scores + c) - log_sum).store(scores + c);
    }
    if (args_.dropout_p > 0) drop(work, r, p, columns, scores);
    T* out = static_cast<T*>(args_.weights) + first_weight(work, r);
    for (std::int64_t c = 0; c < columns; ++c) out[work.columns(p + c)] = scores[c];
  }

  // The results of queries that are missing.
  void clear(std::int64_t b, std::int64_t h) const {
    clear_missing(args_.query_mask, b, args_.query, args_.out.data, args_.out.columns,
                  h * heads_.value_depth, heads_.value_depth);
    for (std::int64_t q = 0; args_.query_mask.present() && q < heads_.queries; ++q) {
      if (args_.query_mask(b, q)) continue;
      const std::int64_t row = heads_.row(b, h, q);
      static_cast<T*>(args_.log_sum)[row] = std::numeric_limits<T>::infinity();
      if (args_.weights == nullptr) continue;
      std::fill_n(static_cast<T*>(args_.weights) + row * heads_.tokens, heads_.tokens, T(0));
    }
  }

  const AttentionFusionArgs& args_;
  const Executor& executor_;
  const AttentionHeads<T> heads_;
  const std::int64_t groups_, group_rows_, block_rows_;
  const Dropout dropout_;
  FewRows<T> few_;
  const Presence present_queries_, present_tokens_;
};

}  // namespace

void long_attention(const AttentionFusionArgs& args, const Executor& executor) {
  if (args.out.batch == 0 || args.out.rows == 0) return;
  with_accumulator(args.key.dtype, [&]<class T>(T*) { LongForward<T>(args, executor).run(); });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
