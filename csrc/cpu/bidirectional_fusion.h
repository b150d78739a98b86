// What bidirectional_fusion and its backward share: how the work is cut.
#pragma once

#include "cpu/score_blocks.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

inline constexpr std::int64_t kLeastRows = 160;  // of a run
inline constexpr std::int64_t kPartRows = 2;     // times both sides: the most that parts take
inline constexpr std::int64_t kPanelBytes = 96 * 1024;  // of a block's packed tokens

// What both passes know of the shapes. The longer side is called the rows.
template <class T>
struct Plan {
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;

  Plan(const BidirectionalSide& rows, const BidirectionalSide& columns)
      : batch(rows.tokens.batch),
        N(rows.tokens.rows),
        M(columns.tokens.rows),
        depth(rows.tokens.columns),
        row_width(round_up(rows.value.columns, kWidth)),
        column_width(round_up(columns.value.columns, kWidth)) {
    const std::int64_t widest = std::max({depth, row_width, column_width});
    const std::int64_t most =
        std::max<std::int64_t>(1, kPartRows * (N + M) / std::max<std::int64_t>(M, 1));
    // Half as many tasks as usual, as each has sums of its own of all columns.
    runs = std::min(most, count_runs(2 * batch, N, kLeastRows));
    run_rows = round_up(ceil_div(N, runs), kHeight);
    block_rows =
        even_part(run_rows, rows_per_block<T>(widest, kPanelBytes, kHeight, kBlockRows), kHeight);
    block_columns =
        even_part(M, rows_per_block<T>(widest, 2 * kPanelBytes, kWidth, kBlockColumns), kWidth);
  }

  std::int64_t batch, N, M, depth;
  std::int64_t row_width, column_width;  // of the values of either side, whole panels
  std::int64_t runs, run_rows, block_rows, block_columns;
};

// By shape alone: what is masked does not move the cut.
inline bool user_is_shorter(const BidirectionalFusionArgs& args) {
  return args.user.tokens.rows < args.item.tokens.rows;
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
