// attention_fusion over many tokens or of many queries, where products are matrix products: called
// by attention_fusion.cpp. And what its two passes share.
#pragma once

#include "cpu/few_queries.h"
#include "cpu/philox.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

void long_attention(const AttentionFusionArgs& args, const Executor& executor);
void long_attention_backward(const AttentionFusionBackwardArgs& args, const Executor& executor);

// The arguments head by head, and the sizes of the blocks.
template <class T>
class AttentionHeads {
 public:
  AttentionHeads(const AttentionFusionArgs& args, std::int64_t block_bytes)
      : batch(args.key.batch),
        heads(args.num_heads),
        queries(args.query.rows),
        tokens(args.key.rows),
        depth(args.key.columns / heads),
        value_depth(args.value.columns / heads),
        value_width(round_up(value_depth, Tile<T>::kWidth)),
        row_width(round_up(depth, Vec<T>::kSize)),
        value_row_width(round_up(value_depth, Vec<T>::kSize)),
        few(queries <= kFewQueries),
        args_(args),
        query_(args.query) {
    if (query_.batch == 1) query_.batch_stride = 0;
    const std::int64_t widest = std::max(depth, value_width);
    most_rows = rows_per_block<T>(widest, block_bytes, Tile<T>::kHeight, kGroupRows);
    block_columns =
        even_part(tokens, rows_per_block<T>(widest, block_bytes, Tile<T>::kWidth, kBlockColumns),
                  Tile<T>::kWidth);
  }

  MatrixView query(std::int64_t h) const { return head(query_, h); }
  MatrixView key(std::int64_t h) const { return head(args_.key, h); }
  MatrixView value(std::int64_t h) const { return head(args_.value, h); }
  MatrixView head(const MatrixView& side, std::int64_t h) const {
    const std::int64_t width = side.columns / heads;
    return columns_of(side, h * width, (h + 1) * width);
  }

  // The place of a query in [batch, heads, queries].
  std::int64_t row(std::int64_t b, std::int64_t h, std::int64_t query) const {
    return (b * heads + h) * queries + query;
  }

  static constexpr std::int64_t kGroupRows = 384;  // queries that meet a block of tokens

  const std::int64_t batch, heads, queries, tokens;
  const std::int64_t depth, value_depth, value_width;  // of a head; in whole panels
  const std::int64_t row_width, value_row_width;       // in whole vectors
  const bool few;                                      // products row by row: few_queries.h
  std::int64_t most_rows, block_columns;

 private:
  const AttentionFusionArgs& args_;
  MatrixView query_;
};

// Scratch of one worker for products row by row.
template <class T>
struct FewRows {
  FewRows(const AttentionHeads<T>& heads, int workers)
      : width_(std::max(heads.row_width, heads.value_row_width)),
        rows_(heads.few ? heads.block_columns : 0),
        queries_(heads.few ? kFewQueries : 0),
        pointers_(workers, 2 * (rows_ + queries_)),
        copies_(workers, 2 * (rows_ + queries_) * width_),
        sums_(workers, queries_ * width_) {}

  // Keys, values, queries and incoming gradients are places 0 to 3.
  RowPointers<T> gather(int place, const MatrixView& side, std::int64_t b,
                        const PresentTokens& tokens, std::int64_t begin, std::int64_t end,
                        int worker) {
    const std::int64_t before = std::min(place, 2) * rows_ + std::max(place - 2, 0) * queries_;
    const T** const rows = pointers_.of(worker) + before;
    gather_tokens(side, b, tokens, begin, end, copies_.of(worker) + before * width_, rows);
    return rows;
  }

  T* sums(int worker) { return sums_.of(worker); }

 private:
  const std::int64_t width_, rows_, queries_;
  Scratch<const T*> pointers_;
  Scratch<T> copies_, sums_;
};

// What the dropout multiplies the weights of one query with, for tokens [p, p + count) of those
// present.
template <class T>
void dropout_factors(const Dropout& dropout, std::int64_t first_weight, const PresentTokens& tokens,
                     std::int64_t p, std::int64_t count, T* factors) {
  if (tokens.list == nullptr) return dropout.factors(first_weight + p, count, factors);
  T some[kBlockColumns];
  for (std::int64_t c = 0; c < count;) {
    const std::int64_t begin = tokens(p + c);
    const std::int64_t span = std::min(kBlockColumns, tokens(p + count - 1) + 1 - begin);
    dropout.factors(first_weight + begin, span, some);
    for (; c < count && tokens(p + c) < begin + span; ++c) factors[c] = some[tokens(p + c) - begin];
  }
}

// The gradient of queries that all samples share: parts, a run of samples each, added in ascending
// order, kChain at a time.
template <class T>
class SharedSums {
 public:
  SharedSums(std::int64_t parts, std::int64_t size)
      : parts_(parts), size_(size), sums_(1, parts * size) {}

  T* part(std::int64_t number) { return sums_.of(0) + number * size_; }

  void start(const Executor& executor) {
    executor.run(parts_, [&](std::int64_t k, int) { std::fill_n(part(k), size_, T(0)); });
  }

  void finish(void* out, DType dtype, const Executor& executor) {
    constexpr std::int64_t kPerTask = 64;
    executor.run(ceil_div(size_, kPerTask), [&](std::int64_t task, int) {
      const std::int64_t end = std::min(size_, (task + 1) * kPerTask);
      for (std::int64_t i = task * kPerTask; i < end; ++i) {
        T total = 0;
        for (std::int64_t first = 0; first < parts_; first += kChain) {
          T sum = 0;
          for (std::int64_t k = first; k < std::min(parts_, first + kChain); ++k) sum += part(k)[i];
          total += sum;
        }
        with_source<T>(dtype, [&]<class Out>(Out*) { narrow(total, static_cast<Out*>(out) + i); });
      }
    });
  }

 private:
  const std::int64_t parts_, size_;
  Scratch<T> sums_;
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
