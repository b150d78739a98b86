// bidirectional_fusion_backward: the scores once more, from them both softmaxes by the log-sum-exps
// of the forward pass, and G, the gradient toward the products of tokens, which is scale times
//   P_row (g_row . value_column - delta_row) + P_column (g_column . value_row - delta_column),
// delta being a token's incoming gradient times its result.
// Bound: 7 products, 14 N M D operations, and 2 N M exponentials.
#include "cpu/bidirectional_few.h"
#include "cpu/bidirectional_fusion.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

template <class T>
class Backward {
 public:
  Backward(const BidirectionalSide& rows, const BidirectionalSide& columns,
           const BidirectionalGradients& row_gradients,
           const BidirectionalGradients& column_gradients, double scale, const Executor& executor)
      : rows_(rows),
        columns_(columns),
        row_gradients_(row_gradients),
        column_gradients_(column_gradients),
        scale_(static_cast<T>(scale)),
        executor_(executor),
        plan_(rows, columns),
        width_(round_up(plan_.depth, kWidth)),
        row_value_width_(row_gradients.value == nullptr ? 0 : plan_.row_width),
        column_value_width_(column_gradients.value == nullptr ? 0 : plan_.column_width),
        toward_tokens_(row_gradients.tokens != nullptr || column_gradients.tokens != nullptr),
        present_rows_(rows.mask, plan_.batch, plan_.N, executor),
        present_columns_(columns.mask, plan_.batch, plan_.M, executor),
        parts_(plan_.runs == 1 ? executor.workers() : static_cast<int>(plan_.batch * plan_.runs),
               plan_.M * (width_ + column_value_width_)) {}

  void run() {
    const int workers = executor_.workers();
    const std::int64_t block = plan_.block_rows;
    Scratch<T> row_side(workers, Packed::size(block, rows_, columns_));
    Scratch<T> column_side(workers, Packed::size(round_up(plan_.M, kWidth), columns_, rows_));
    Scratch<T> row_sums(workers, block * (width_ + row_value_width_));
    Scratch<T> blocks(workers, 3 * kBlockSize);
    executor_.run(plan_.batch * plan_.runs, [&](std::int64_t task, int worker) {
      Work work;
      work.b = task / plan_.runs;
      work.present_rows = present_rows_.of(work.b);
      work.present_columns = present_columns_.of(work.b);
      work.rows = Packed(row_side.of(worker), block, rows_, columns_);
      work.columns = Packed(column_side.of(worker), round_up(plan_.M, kWidth), columns_, rows_);
      work.row_sums = {row_sums.of(worker), row_sums.of(worker) + block * width_};
      work.column_sums = part(plan_.runs == 1 ? worker : task);
      work.by_row = blocks.of(worker);
      work.by_column = work.by_row + kBlockSize;
      work.gradient = work.by_column + kBlockSize;
      run_task(work, task % plan_.runs);
    });
    if (plan_.runs > 1) merge();
  }

 private:
  using V = Vec<T>;
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  static constexpr int kVectors = Tile<T>::kVectors;

  // Tokens of one side, packed for both kinds of products, with their incoming gradients.
  struct Packed {
    Packed() = default;
    Packed(T* data, std::int64_t tokens, const BidirectionalSide& own,
           const BidirectionalSide& other) {
      const auto take = [&](std::int64_t width) {
        T* const taken = data;
        data += tokens * width;
        return taken;
      };
      panels = take(own.tokens.columns);
      value = take(own.value.columns);
      grad = take(other.value.columns);
      token_rows = {take(round_up(own.tokens.columns, kWidth)), tokens};
      grad_rows = {take(round_up(other.value.columns, kWidth)), tokens};
      log_sum = take(1);
      delta = take(1);
    }

    static std::int64_t size(std::int64_t tokens, const BidirectionalSide& own,
                             const BidirectionalSide& other) {
      return tokens * (2 * round_up(own.tokens.columns, kWidth) + own.value.columns +
                       2 * round_up(other.value.columns, kWidth) + 2);
    }

    T *panels, *value, *grad;
    RowPanels<T> token_rows, grad_rows;
    T *log_sum, *delta;
  };

  struct Sums {
    T *tokens, *value;
  };

  struct Work {
    std::int64_t b;
    PresentTokens present_rows, present_columns;
    Packed rows, columns;  // a block of rows; all columns
    Sums row_sums, column_sums;
    T *by_row, *by_column, *gradient;  // both softmaxes of a block, and G
  };

  Sums part(std::int64_t number) const {
    T* data = parts_.of(static_cast<int>(number));
    return {data, data + plan_.M * width_};
  }

  // kPanel: of which width the panels of tokens are.
  template <int kPanel>
  void pack(const BidirectionalSide& side, const MatrixView& grad, std::int64_t b,
            const PresentTokens& tokens, std::int64_t begin, std::int64_t end, Packed& out) const {
    pack_tokens<kPanel>(side.tokens, b, tokens, begin, end, out.panels);
    if (side.value_is_tokens) {
      out.value = out.panels;
    } else {
      pack_tokens<kPanel>(side.value, b, tokens, begin, end, out.value);
    }
    pack_tokens<kPanel>(grad, b, tokens, begin, end, out.grad);
    copy_tokens(side.tokens, b, tokens, begin, end, out.token_rows);
    copy_tokens(grad, b, tokens, begin, end, out.grad_rows);
    const std::int64_t count = end - begin, padded = round_up(count, kPanel);
    std::fill(out.log_sum + count, out.log_sum + padded, std::numeric_limits<T>::infinity());
    std::fill(out.delta + count, out.delta + padded, T(0));
    const T* log_sums = static_cast<const T*>(side.log_sum) + b * side.tokens.rows;
    for (std::int64_t i = 0; i < count; ++i) {
      out.log_sum[i] = log_sums[tokens(begin + i)];
      const std::int64_t width = side.fused.columns;
      const std::int64_t row = b * side.tokens.rows + tokens(begin + i);
      out.delta[i] =
          product_with_row(side.fused.data, side.fused.dtype, row * width, width, out.grad_rows, i);
    }
  }

  void run_task(Work& work, std::int64_t run) {
    if (run == 0) clear(work.b);
    const std::int64_t M = work.present_columns.count;
    pack<kWidth>(columns_, column_gradients_.fused, work.b, work.present_columns, 0, M,
                 work.columns);
    std::fill_n(work.column_sums.tokens, M * width_, T(0));
    std::fill_n(work.column_sums.value, M * column_value_width_, T(0));
    const std::int64_t end = std::min(work.present_rows.count, (run + 1) * plan_.run_rows);
    for (std::int64_t i = run * plan_.run_rows; i < end; i += plan_.block_rows) {
      add_rows(work, i, std::min(end, i + plan_.block_rows));
    }
    if (plan_.runs > 1) return;
    for (std::int64_t p = 0; p < M; ++p) {
      finish_column(work.b, p, work.present_columns(p), work.column_sums);
    }
  }

  void add_rows(Work& work, std::int64_t i0, std::int64_t i1) const {
    const std::int64_t rows = i1 - i0, M = work.present_columns.count;
    pack<kHeight>(rows_, row_gradients_.fused, work.b, work.present_rows, i0, i1, work.rows);
    std::fill_n(work.row_sums.tokens, rows * width_, T(0));
    std::fill_n(work.row_sums.value, rows * row_value_width_, T(0));
    for (std::int64_t p = 0; p < M; p += plan_.block_columns) {
      const std::int64_t columns = std::min(plan_.block_columns, M - p);
      for (std::int64_t c = 0; c < columns; c += kWidth) {
        for (std::int64_t i = 0; i < rows; i += kHeight) write_tile(work, i, rows - i, p, c);
      }
      add_products(work, rows, p, columns);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      finish(rows_, row_gradients_, work.b * plan_.N + work.present_rows(i0 + r),
             work.row_sums.tokens + r * width_, work.row_sums.value + r * row_value_width_);
    }
  }

  // Both softmaxes and G of a tile: rows from i on and the panel of columns at p + c.
  void write_tile(Work& work, std::int64_t i, std::int64_t rows, std::int64_t p,
                  std::int64_t c) const {
    const int n = static_cast<int>(std::min<std::int64_t>(rows, kHeight));
    const std::int64_t at = i * kBlockStride + c;
    write_softmaxes(work, i, n, p + c, at);
    if (!toward_tokens_) return;
    write_row_gradient(work, i, n, p + c, at);
    add_column_gradient(work, i, n, p + c, at);
  }

  [[gnu::noinline]] void write_softmaxes(Work& work, std::int64_t i, int n, std::int64_t p,
                                         std::int64_t at) const {
    const V scale = V::broadcast(scale_);
    const auto epilogue = [&]<int kRows>(V(&x)[kRows][kVectors]) {
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const V log_sum = V::broadcast(work.rows.log_sum[i + r]);
        for (int j = 0; j < kVectors; ++j) {
          const V score = x[r][j] * scale;
          const V column_log_sum = V::load(work.columns.log_sum + p + j * V::kSize);
          const std::int64_t to = at + r * kBlockStride + j * V::kSize;
          exponential(score - log_sum).store(work.by_row + to);
          exponential(score - column_log_sum).store(work.by_column + to);
        }
      }
    };
    multiply<T>(PackedLeft<T>{work.rows.panels + i * plan_.depth},
                RightSide<T>{work.columns.panels + p * plan_.depth}, plan_.depth, n, epilogue);
  }

  [[gnu::noinline]] void write_row_gradient(Work& work, std::int64_t i, int n, std::int64_t p,
                                            std::int64_t at) const {
    const std::int64_t depth = columns_.value.columns;
    const V scale = V::broadcast(scale_);
    const auto epilogue = [&]<int kRows>(V(&x)[kRows][kVectors]) {
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const V delta = V::broadcast(work.rows.delta[i + r]);
        for (int j = 0; j < kVectors; ++j) {
          const std::int64_t to = at + r * kBlockStride + j * V::kSize;
          (V::load(work.by_row + to) * scale * (x[r][j] - delta)).store(work.gradient + to);
        }
      }
    };
    multiply<T>(PackedLeft<T>{work.rows.grad + i * depth},
                RightSide<T>{work.columns.value + p * depth}, depth, n, epilogue);
  }

  [[gnu::noinline]] void add_column_gradient(Work& work, std::int64_t i, int n, std::int64_t p,
                                             std::int64_t at) const {
    const std::int64_t depth = rows_.value.columns;
    const V scale = V::broadcast(scale_);
    V delta[kVectors];
    for (int j = 0; j < kVectors; ++j) delta[j] = V::load(work.columns.delta + p + j * V::kSize);
    const auto epilogue = [&]<int kRows>(V(&x)[kRows][kVectors]) {
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        for (int j = 0; j < kVectors; ++j) {
          const std::int64_t to = at + r * kBlockStride + j * V::kSize;
          fused_multiply_add(V::load(work.by_column + to) * scale, x[r][j] - delta[j],
                             V::load(work.gradient + to))
              .store(work.gradient + to);
        }
      }
    };
    multiply<T>(PackedLeft<T>{work.rows.value + i * depth},
                RightSide<T>{work.columns.grad + p * depth}, depth, n, epilogue);
  }

  void add_products(Work& work, std::int64_t rows, std::int64_t p, std::int64_t columns) const {
    const Packed &own = work.rows, &other = work.columns;
    T* const row_tokens = row_gradients_.tokens == nullptr ? nullptr : work.row_sums.tokens;
    T* const column_tokens =
        column_gradients_.tokens == nullptr ? nullptr : work.column_sums.tokens + p * width_;
    if (row_tokens != nullptr) {
      add_toward_rows(work.gradient, rows, columns, other.token_rows, p, width_, row_tokens);
    }
    if (column_tokens != nullptr) {
      add_toward_columns(work.gradient, rows, columns, own.token_rows, 0, width_, column_tokens);
    }
    // The values' go to sums of their own, or, where the tokens are the values, to the tokens'.
    T* const row_value = rows_.value_is_tokens             ? row_tokens
                         : row_gradients_.value != nullptr ? work.row_sums.value
                                                           : nullptr;
    T* const column_value = columns_.value_is_tokens ? column_tokens
                            : column_gradients_.value != nullptr
                                ? work.column_sums.value + p * plan_.column_width
                                : nullptr;
    if (row_value != nullptr) {
      add_toward_rows(work.by_column, rows, columns, other.grad_rows, p, plan_.row_width,
                      row_value);
    }
    if (column_value != nullptr) {
      add_toward_columns(work.by_row, rows, columns, own.grad_rows, 0, plan_.column_width,
                         column_value);
    }
  }

  void finish_column(std::int64_t b, std::int64_t p, std::int64_t token, const Sums& from) const {
    finish(columns_, column_gradients_, b * plan_.M + token, from.tokens + p * width_,
           from.value + p * column_value_width_);
  }

  void finish(const BidirectionalSide& side, const BidirectionalGradients& to, std::int64_t row,
              const T* tokens, const T* value) const {
    const DType dtype = side.tokens.dtype;
    const std::int64_t width = side.tokens.columns, value_width = side.value.columns;
    if (to.tokens != nullptr) write_row(to.tokens, dtype, row * width, width, tokens, T(1));
    if (to.value != nullptr) {
      write_row(to.value, dtype, row * value_width, value_width, value, T(1));
    }
  }

  void clear(std::int64_t b) const {
    const auto clear_side = [b](const BidirectionalSide& side, const BidirectionalGradients& to) {
      clear_missing(side.mask, b, side.tokens, to.tokens, side.tokens.columns);
      clear_missing(side.mask, b, side.tokens, to.value, side.value.columns);
    };
    clear_side(rows_, row_gradients_);
    clear_side(columns_, column_gradients_);
  }

  void merge() const {
    each_token(executor_, plan_.batch, 1, present_columns_,
               [&](std::int64_t b, std::int64_t p, std::int64_t token) {
                 const Sums into = part(b * plan_.runs);
                 for (std::int64_t run = 1; run < plan_.runs; ++run) {
                   const Sums from = part(b * plan_.runs + run);
                   add_to(into.tokens + p * width_, from.tokens + p * width_, width_);
                   add_to(into.value + p * column_value_width_,
                          from.value + p * column_value_width_, column_value_width_);
                 }
                 finish_column(b, p, token, into);
               });
  }

  const BidirectionalSide &rows_, &columns_;
  const BidirectionalGradients &row_gradients_, &column_gradients_;
  const T scale_;
  const Executor& executor_;
  const Plan<T> plan_;
  const std::int64_t width_;  // of tokens, in whole panels; of sums of values, 0 where not wanted:
  const std::int64_t row_value_width_, column_value_width_;
  const bool toward_tokens_;
  const Presence present_rows_, present_columns_;
  mutable Scratch<T> parts_;
};

}  // namespace

void bidirectional_fusion_backward(const BidirectionalFusionBackwardArgs& args,
                                   const Executor& executor) {
  if (has_few_tokens(args.forward)) return fuse_few_tokens_backward(args, executor);
  const bool swap = user_is_shorter(args.forward);
  const BidirectionalSide& rows = swap ? args.forward.item : args.forward.user;
  const BidirectionalSide& columns = swap ? args.forward.user : args.forward.item;
  if (rows.tokens.batch == 0 || rows.tokens.rows == 0) return;
  with_accumulator(rows.tokens.dtype, [&]<class T>(T*) {
    Backward<T>(rows, columns, swap ? args.item : args.user, swap ? args.user : args.item,
                args.forward.scale, executor)
        .run();
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
