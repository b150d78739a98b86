// bidirectional_fusion: two softmaxes of one matrix of scores, along its rows and its columns, and
// what each side attends to by them. The scores exist a block at a time.
//
// The longer side is called the rows. A task is a run of them in one batch element, against all
// columns: blocks of rows meet blocks of columns, each block's scores become exponentials under the
// peaks seen so far, of the rows in place and of the columns beside them, and both are multiplied
// with the values of the other side. Where a peak rises, what was summed up under it is scaled. A
// row is finished when it has met all columns. The columns are summed up run by run, and the parts
// are added in ascending order. The cut depends on the shapes alone. Few tokens take another way
// (bidirectional_few.h).
// Bound: 3 products, 6 N M D operations, and 2 N M exponentials.
#include "cpu/bidirectional_fusion.h"
#include "cpu/bidirectional_few.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

template <class T>
class Forward {
 public:
  Forward(const BidirectionalSide& rows, const BidirectionalSide& columns, double scale,
          const Executor& executor)
      : rows_(rows),
        columns_(columns),
        scale_(static_cast<T>(scale)),
        executor_(executor),
        plan_(rows, columns),
        present_rows_(rows.mask, plan_.batch, plan_.N, executor),
        present_columns_(columns.mask, plan_.batch, plan_.M, executor),
        padded_columns_(round_up(plan_.M, kWidth)),
        parts_(plan_.runs == 1 ? executor.workers() : static_cast<int>(plan_.batch * plan_.runs),
               2 * padded_columns_ + plan_.M * plan_.row_width) {}

  void run() {
    const int workers = executor_.workers();
    const std::int64_t block = plan_.block_rows;
    Scratch<T> panels(workers, padded_columns_ * plan_.depth);
    Scratch<T> values(workers, plan_.M * plan_.column_width);
    Scratch<T> left(workers, block * plan_.depth), row_values(workers, block * plan_.row_width);
    Scratch<T> sums(workers, block * plan_.column_width), peaks(workers, block);
    Scratch<T> totals(workers, block * V::kSize), blocks(workers, 2 * kBlockSize);
    executor_.run(plan_.batch * plan_.runs, [&](std::int64_t task, int worker) {
      Work work;
      work.b = task / plan_.runs;
      work.rows = present_rows_.of(work.b);
      work.columns = present_columns_.of(work.b);
      work.panels = panels.of(worker);
      work.values = {values.of(worker), plan_.M};
      work.left = left.of(worker);
      work.row_values = {row_values.of(worker), block};
      work.running = {peaks.of(worker), totals.of(worker), sums.of(worker), plan_.column_width};
      work.scores = blocks.of(worker);
      work.weights = work.scores + kBlockSize;
      work.part = part(plan_.runs == 1 ? worker : task);
      run_task(work, task % plan_.runs);
    });
    if (plan_.runs > 1) merge();
  }

 private:
  using V = Vec<T>;
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  static constexpr int kVectors = Tile<T>::kVectors;

  // Peaks, totals and sums of the columns.
  struct Part {
    T *peaks, *totals, *sums;
  };

  struct Work {
    std::int64_t b;
    PresentTokens rows, columns;
    T* panels;  // packed columns
    RowPanels<T> values;
    T* left;  // a packed block of rows
    RowPanels<T> row_values;
    RunningRows<T> running;  // the block's
    T *scores, *weights;     // becoming the rows' exponentials; the columns'
    Part part;
  };

  Part part(std::int64_t number) const {
    T* data = parts_.of(static_cast<int>(number));
    return {data, data + padded_columns_, data + 2 * padded_columns_};
  }

  void run_task(Work& work, std::int64_t run) {
    if (run == 0) clear(work.b);
    const std::int64_t M = work.columns.count;
    pack_tokens<kWidth>(columns_.tokens, work.b, work.columns, 0, M, work.panels);
    copy_tokens(columns_.value, work.b, work.columns, 0, M, work.values);
    std::fill_n(work.part.peaks, padded_columns_, kNoPeak<T>);
    std::fill_n(work.part.totals, padded_columns_, T(0));
    std::fill_n(work.part.sums, M * plan_.row_width, T(0));
    const std::int64_t end = std::min(work.rows.count, (run + 1) * plan_.run_rows);
    for (std::int64_t i = run * plan_.run_rows; i < end; i += plan_.block_rows) {
      add_rows(work, i, std::min(end, i + plan_.block_rows));
    }
    if (plan_.runs > 1) return;
    for (std::int64_t p = 0; p < M; ++p) finish_column(work.b, p, work.columns(p), work.part);
  }

  void add_rows(Work& work, std::int64_t i0, std::int64_t i1) const {
    const std::int64_t rows = i1 - i0, M = work.columns.count;
    pack_tokens<kHeight>(rows_.tokens, work.b, work.rows, i0, i1, work.left);
    copy_tokens(rows_.value, work.b, work.rows, i0, i1, work.row_values);
    work.running.start(rows);
    for (std::int64_t p = 0; p < M; p += plan_.block_columns) {
      const std::int64_t columns = std::min(plan_.block_columns, M - p);
      score(work, rows, p, columns);
      exponentiate(work, rows, p, columns);
      add_toward_rows(work.scores, rows, columns, work.values, p, plan_.column_width,
                      work.running.sums);
      add_toward_columns(work.weights, rows, columns, work.row_values, 0, plan_.row_width,
                         work.part.sums + p * plan_.row_width);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      finish(rows_, work.b, work.rows(i0 + r), work.running.peaks[r], work.running.total(r),
             work.running.sums + r * plan_.column_width);
    }
  }

  // The scores of a block, and the peaks of its columns raised.
  void score(Work& work, std::int64_t rows, std::int64_t p, std::int64_t columns) const {
    alignas(64) T most[kBlockColumns];
    std::copy_n(work.part.peaks + p, round_up(columns, kWidth), most);
    write_scores<true>(work.left, rows, work.panels + p * plan_.depth, columns, plan_.depth, scale_,
                       most, work.scores);
    for (std::int64_t c = 0; c < columns; ++c) raise_column(work, p + c, most[c]);
  }

  void raise_column(Work& work, std::int64_t p, T most) const {
    if (!(most > work.part.peaks[p])) return;
    const T factor = raise_peak(most, work.part.peaks[p]);
    if (work.part.totals[p] == T(0)) return;
    work.part.totals[p] *= factor;
    multiply_by(work.part.sums + p * plan_.row_width, plan_.row_width, factor);
  }

  // Scores as exponentials: the rows' in place, the columns' to the weights.
  [[gnu::noinline]] void exponentiate(Work& work, std::int64_t rows, std::int64_t p,
                                      std::int64_t columns) const {
    alignas(64) T by_column[kBlockColumns];
    std::fill_n(by_column, round_up(columns, V::kSize), T(0));
    for (std::int64_t r = 0; r < rows; ++r) {
      T* scores = work.scores + r * kBlockStride;
      T* weights = work.weights + r * kBlockStride;
      work.running.raise(r, scores, columns);
      const V peak = V::broadcast(work.running.peaks[r]);
      V total = V::load(work.running.totals + r * V::kSize);
      for (std::int64_t c = 0; c < columns; c += V::kSize) {
        const V x = V::load(scores + c);
        const V by_row = exponential(x - peak);
        const V weight = exponential(x - V::load(work.part.peaks + p + c));
        total = total + by_row;
        by_row.store(scores + c);
        weight.store(weights + c);
        (V::load(by_column + c) + weight).store(by_column + c);
      }
      total.store(work.running.totals + r * V::kSize);
    }
    for (std::int64_t c = 0; c < columns; ++c) work.part.totals[p + c] += by_column[c];
  }

  void finish_column(std::int64_t b, std::int64_t p, std::int64_t token, const Part& from) const {
    finish(columns_, b, token, from.peaks[p], from.totals[p], from.sums + p * plan_.row_width);
  }

  static void finish(const BidirectionalSide& side, std::int64_t b, std::int64_t token, T peak,
                     T total, const T* sums) {
    const std::int64_t row = b * side.tokens.rows + token;
    static_cast<T*>(side.log_sum)[row] = log_sum(peak, total);
    write_row(side.fused.data, side.fused.dtype, row * side.fused.columns, side.fused.columns, sums,
              total == T(0) ? T(0) : 1 / total);
  }

  void clear(std::int64_t b) const {
    for (const BidirectionalSide* side : {&rows_, &columns_}) {
      const std::int64_t n = side->tokens.rows;
      clear_missing(side->mask, b, side->tokens, side->fused.data, side->fused.columns);
      for (std::int64_t i = 0; side->mask.present() && i < n; ++i) {
        if (side->mask(b, i)) continue;
        static_cast<T*>(side->log_sum)[b * n + i] = std::numeric_limits<T>::infinity();
      }
    }
  }

  void merge() const {
    each_token(executor_, plan_.batch, 1, present_columns_,
               [&](std::int64_t b, std::int64_t p, std::int64_t token) {
                 const Part into = part(b * plan_.runs);
                 for (std::int64_t run = 1; run < plan_.runs; ++run) {
                   add(into, part(b * plan_.runs + run), p);
                 }
                 finish_column(b, p, token, into);
               });
  }

  // Adds column p of one part to another.
  void add(const Part& into, const Part& from, std::int64_t p) const {
    if (from.totals[p] == T(0)) return;
    const T peak = std::max(into.peaks[p], from.peaks[p]);
    const T kept = std::exp(into.peaks[p] - peak), added = std::exp(from.peaks[p] - peak);
    into.peaks[p] = peak;
    into.totals[p] = into.totals[p] * kept + from.totals[p] * added;
    T* sums = into.sums + p * plan_.row_width;
    const T* more = from.sums + p * plan_.row_width;
    for (std::int64_t d = 0; d < plan_.row_width; ++d) sums[d] = sums[d] * kept + more[d] * added;
  }

  const BidirectionalSide &rows_, &columns_;
  const T scale_;
  const Executor& executor_;
  const Plan<T> plan_;
  const Presence present_rows_, present_columns_;
  const std::int64_t padded_columns_;
  mutable Scratch<T> parts_;
};

}  // namespace

void bidirectional_fusion(const BidirectionalFusionArgs& args, const Executor& executor) {
  if (has_few_tokens(args)) return fuse_few_tokens(args, executor);
  const bool swap = user_is_shorter(args);
  const BidirectionalSide& rows = swap ? args.item : args.user;
  const BidirectionalSide& columns = swap ? args.user : args.item;
  if (rows.tokens.batch == 0 || rows.tokens.rows == 0) return;
  with_accumulator(rows.tokens.dtype,
                   [&]<class T>(T*) { Forward<T>(rows, columns, args.scale, executor).run(); });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
