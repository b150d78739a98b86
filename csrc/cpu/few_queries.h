// Products of a few queries with a block of tokens, row by row where they stand: to pack a block
// would cost more than its products do.
#pragma once

#include "cpu/head_rows.h"
#include "cpu/rows.h"
#include "cpu/score_blocks.h"
#include "cpu/token_tiles.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

inline constexpr std::int64_t kFewQueries = 8;

// Tokens [begin, end) of those present, each whole vectors long: in their own memory, or widened
// into `copies`.
template <class T>
void gather_tokens(const MatrixView& m, std::int64_t b, const PresentTokens& tokens,
                   std::int64_t begin, std::int64_t end, T* copies, const T** rows) {
  const std::int64_t width = round_up(m.columns, Vec<T>::kSize);
  if (is_of<T>(m.dtype) && m.column_stride == 1 && m.columns == width) {
    for (std::int64_t i = begin; i < end; ++i) *rows++ = m.template at<T>(b, tokens(i), 0);
    return;
  }
  with_source<T>(m.dtype, [&]<class Source>(Source*) {
    for (std::int64_t i = begin; i < end; ++i, copies += width) {
      *rows++ = copies;
      widen_row(m.template at<Source>(b, tokens(i), 0), m.column_stride, m.columns, copies);
    }
  });
}

// scale * products as a block; -inf up to whole vectors of columns.
template <class T>
[[gnu::noinline]] void write_few_products(RowPointers<T> left, std::int64_t lefts,
                                          RowPointers<T> right, std::int64_t rights,
                                          std::int64_t width, T scale, T* block) {
  constexpr int kSize = Vec<T>::kSize;
  for (std::int64_t m = 0; m < rights; m += kSize) {
    const T* columns[kSize];
    for (int j = 0; j < kSize; ++j) columns[j] = right[std::min(m + j, rights - 1)];
    for (std::int64_t q = 0; q < lefts; ++q) {
      const T* const row[1] = {left[q]};
      (dot_tile<1, Vec<T>::kSize, T>(row, columns, width) * Vec<T>::broadcast(scale))
          .store(block + q * kBlockStride + m);
    }
  }
  for (std::int64_t q = 0; q < lefts; ++q) {
    T* row = block + q * kBlockStride;
    std::fill(row + rights, row + round_up(rights, kSize), -std::numeric_limits<T>::infinity());
  }
}

// sums[q] += sum_m block[q][m] * rows[m], the sums `stride` apart.
template <class T>
[[gnu::noinline]] void add_few_toward_rows(const T* block, std::int64_t queries,
                                           RowPointers<T> rows, std::int64_t count,
                                           std::int64_t width, T* sums, std::int64_t stride,
                                           T* scratch) {
  T* out[kFewQueries];
  for (std::int64_t q = 0; q < queries; ++q) out[q] = scratch + q * width;
  combine<false, T>(out, queries, width, Summands<T>{block, kBlockStride, 1, rows, count});
  for (std::int64_t q = 0; q < queries; ++q) add_to(sums + q * stride, out[q], width);
}

// The gradient of tokens, [batch, tokens, columns], as sums over few rows: written to where it goes
// if it has the accumulation type there, past the caches if it is large; else narrowed from
// scratch.
template <class T>
class TokenGradient {
 public:
  TokenGradient(void* out, const MatrixView& side, std::int64_t heads)
      : out_(out),
        side_(side),
        depth_(side.columns / heads),
        width_(round_up(depth_, Vec<T>::kSize)),
        direct_(is_of<T>(side.dtype) && depth_ == width_),
        streams_(direct_ && can_stream<T>(out, side.batch * side.rows, side.columns)) {}

  // Tokens [p, p + count) of those present: sum_q of all terms.
  template <class... Terms>
  [[gnu::noinline]] void write(std::int64_t b, std::int64_t h, const PresentTokens& tokens,
                               std::int64_t p, std::int64_t count, T* scratch,
                               const Terms&... terms) const {
    const auto at = [&](std::int64_t m) {
      return (b * side_.rows + tokens(p + m)) * side_.columns + h * depth_;
    };
    T* rows[kBlockColumns];
    for (std::int64_t m = 0; m < count; ++m) {
      rows[m] = direct_ ? static_cast<T*>(out_) + at(m) : scratch + m * width_;
    }
    streams_ ? combine<true, T>(rows, count, width_, terms...)
             : combine<false, T>(rows, count, width_, terms...);
    for (std::int64_t m = 0; m < count && !direct_; ++m) {
      write_row(out_, side_.dtype, at(m), depth_, rows[m], T(1));
    }
  }

 private:
  void* out_;
  const MatrixView side_;
  const std::int64_t depth_, width_;
  const bool direct_, streams_;
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
