// Blocks of scores between the tokens of two sides, and what is made of them where they stand, in
// the second-level cache: attention over long rows and co-attention are both walks over such
// blocks.
//
// Tokens that are missing are left out where rows are packed. Behind that, nothing knows of masks,
// reads what stands in masked places or spends time on it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/block_products.h"
#include "cpu/exp.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// A block is at most kBlockRows x kBlockColumns; both are whole tiles of every type.
inline constexpr std::int64_t kBlockRows = 120, kBlockColumns = 256;
inline constexpr std::int64_t kBlockSize = kBlockRows * kBlockStride;
static_assert(kBlockColumns < kBlockStride);

// `size` in equal parts of at most `most`, each whole panels but for the last.
inline std::int64_t even_part(std::int64_t size, std::int64_t most, std::int64_t panel) {
  if (size <= 0) return panel;
  return round_up(ceil_div(size, ceil_div(size, most)), panel);
}

// The tokens of one batch element that are present, ascending.
struct PresentTokens {
  const std::int64_t* list;  // null: all are
  std::int64_t count;

  std::int64_t operator()(std::int64_t i) const { return list == nullptr ? i : list[i]; }
};

class Presence {
 public:
  Presence(const MaskView& mask, std::int64_t batch, std::int64_t tokens, const Executor& executor)
      : tokens_(tokens), shared_(mask.row_stride == 0) {
    if (!mask.present()) return;
    counts_.resize(static_cast<std::size_t>(shared_ ? 1 : batch));
    lists_.resize(counts_.size() * static_cast<std::size_t>(tokens));
    executor.run(static_cast<std::int64_t>(counts_.size()), [&](std::int64_t b, int) {
      std::int64_t* list = lists_.data() + b * tokens;
      std::int64_t count = 0;
      for (std::int64_t i = 0; i < tokens; ++i) {
        if (mask(b, i)) list[count++] = i;
      }
      counts_[static_cast<std::size_t>(b)] = count;
    });
  }

  std::int64_t tokens() const { return tokens_; }

  PresentTokens of(std::int64_t b) const {
    if (counts_.empty()) return {nullptr, tokens_};
    if (shared_) b = 0;
    return {lists_.data() + b * tokens_, counts_[static_cast<std::size_t>(b)]};
  }

 private:
  std::int64_t tokens_;
  bool shared_;
  std::vector<std::int64_t> counts_, lists_;
};

// Tokens [begin, end) of those present as panels of kWidth, for the tile.
template <int kWidth, class T>
void pack_tokens(const MatrixView& m, std::int64_t b, const PresentTokens& tokens,
                 std::int64_t begin, std::int64_t end, T* out) {
  with_source<T>(m.dtype, [&]<class Source>(Source*) {
    for (std::int64_t first = begin; first < end; first += kWidth, out += kWidth * m.columns) {
      const int count = static_cast<int>(std::min<std::int64_t>(kWidth, end - first));
      const auto row = [&](int r) { return m.template at<Source>(b, tokens(first + r), 0); };
      pack_panel<kWidth, T, Source>(row, m.column_stride, count, m.columns, out);
    }
  });
}

// The same as panels of rows, for products over tokens.
template <class T>
void copy_tokens(const MatrixView& m, std::int64_t b, const PresentTokens& tokens,
                 std::int64_t begin, std::int64_t end, const RowPanels<T>& out) {
  with_source<T>(m.dtype, [&]<class Source>(Source*) {
    for (std::int64_t i = begin; i < end; ++i) {
      out.set(i - begin, m.template at<Source>(b, tokens(i), 0), m.column_stride, m.columns, T(1));
    }
  });
}

// Calls epilogue(i, n, p, tile) for every tile of the products of `rows` packed rows with `columns`
// packed columns: n rows from i on, and a panel of columns from p on.
template <class T, class Epilogue>
[[gnu::always_inline]] inline void each_tile(const T* left, std::int64_t rows, const T* right,
                                             std::int64_t columns, std::int64_t depth,
                                             Epilogue&& epilogue) {
  constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  for (std::int64_t p = 0; p < columns; p += kWidth) {
    for (std::int64_t i = 0; i < rows; i += kHeight) {
      const int n = static_cast<int>(std::min<std::int64_t>(kHeight, rows - i));
      multiply<T>(PackedLeft<T>{left + i * depth}, RightSide<T>{right + p * depth}, depth, n,
                  [&]<int kRows>(Vec<T>(&x)[kRows][Tile<T>::kVectors]) { epilogue(i, n, p, x); });
    }
  }
}

// scale * products as a block; -inf beyond the last column. Where kPeaks, a column's peak becomes
// the largest of its scores, unless it was larger.
template <bool kPeaks, class T>
[[gnu::noinline]] void write_scores(const T* left, std::int64_t rows, const T* right,
                                    std::int64_t columns, std::int64_t depth, T scale, T* peaks,
                                    T* block) {
  using V = Vec<T>;
  constexpr int kVectors = Tile<T>::kVectors;
  alignas(64) T bias[kBlockColumns];
  std::fill(std::fill_n(bias, columns, T(0)), bias + round_up(columns, Tile<T>::kWidth),
            -std::numeric_limits<T>::infinity());
  each_tile(left, rows, right, columns, depth,
            [&]<int kRows>(std::int64_t i, int n, std::int64_t c, V(&x)[kRows][kVectors]) {
              V peak[kVectors], add[kVectors];
              for (int j = 0; j < kVectors; ++j) {
                if constexpr (kPeaks) peak[j] = V::load(peaks + c + j * V::kSize);
                add[j] = V::load(bias + c + j * V::kSize);
              }
#pragma GCC unroll 12
              for (int r = 0; r < kRows; ++r) {
                if (r >= n) break;
                for (int j = 0; j < kVectors; ++j) {
                  const V score = fused_multiply_add(x[r][j], V::broadcast(scale), add[j]);
                  score.store(block + (i + r) * kBlockStride + c + j * V::kSize);
                  if constexpr (kPeaks) peak[j] = maximum(peak[j], score);
                }
              }
              if constexpr (kPeaks) {
                for (int j = 0; j < kVectors; ++j) peak[j].store(peaks + c + j * V::kSize);
              }
            });
}

// A softmax's peak, below every score at first. Not -inf, which minus itself is NaN.
template <class T>
inline constexpr T kNoPeak = std::numeric_limits<T>::lowest();

// Raises a peak to `most`; what was summed up under it is multiplied by what is returned.
template <class T>
inline T raise_peak(T most, T& peak) {
  const T factor = peak == kNoPeak<T> ? T(0) : std::exp(peak - most);
  peak = most;
  return factor;
}

template <class T>
inline void multiply_by(T* values, std::int64_t count, T factor) {
  for (std::int64_t i = 0; i < count; ++i) values[i] *= factor;
}

// Softmaxes of rows over columns seen so far: of each row a peak, the total of exp(score - peak)
// by vector lane, and the sum of what it attends to, under that peak.
template <class T>
struct RunningRows {
  using V = Vec<T>;
  T *peaks, *totals, *sums;
  std::int64_t width;  // of a row of sums

  void start(std::int64_t rows) const {
    std::fill_n(peaks, rows, kNoPeak<T>);
    std::fill_n(totals, rows * V::kSize, T(0));
    std::fill_n(sums, rows * width, T(0));
  }

  // Raises the peak of row r to the largest of its scores, whole vectors of them.
  void raise(std::int64_t r, const T* scores, std::int64_t columns) const {
    V most = V::broadcast(peaks[r]);
    for (std::int64_t c = 0; c < columns; c += V::kSize) most = maximum(most, V::load(scores + c));
    const T peak = largest(most);
    if (!(peak > peaks[r])) return;
    const bool first = peaks[r] == kNoPeak<T>;
    const T factor = raise_peak(peak, peaks[r]);
    if (first) return;
    multiply_by(totals + r * V::kSize, V::kSize, factor);
    multiply_by(sums + r * width, width, factor);
  }

  T total(std::int64_t r) const { return sum_of_lanes(V::load(totals + r * V::kSize)); }
};

template <class T>
inline T log_sum(T peak, T total) {
  return total == T(0) ? std::numeric_limits<T>::infinity() : peak + std::log(total);
}

template <class T>
inline void add_to(T* into, const T* from, std::int64_t count) {
  for (std::int64_t d = 0; d < count; ++d) into[d] += from[d];
}

// The product of the row at element `at` of a result with a packed one.
template <class T>
T product_with_row(const void* data, DType dtype, std::int64_t at, std::int64_t columns,
                   const RowPanels<T>& rows, std::int64_t row) {
  constexpr std::int64_t kWidth = RowPanels<T>::kWidth;
  return with_source<T>(dtype, [&]<class Source>(Source*) {
    const Source* x = static_cast<const Source*>(data) + at;
    alignas(64) T lanes[kWidth] = {};
    for (std::int64_t d = 0; d < columns; d += kWidth) {
      const T* y = rows.panel(d, row).data;
      const std::int64_t count = std::min(kWidth, columns - d);
      for (std::int64_t c = 0; c < count; ++c) lanes[c] += static_cast<T>(widen(x[d + c])) * y[c];
    }
    T sum = 0;
    for (const T lane : lanes) sum += lane;
    return sum;
  });
}

// A row of a result, from element `at` on.
template <class T>
void write_row(void* out, DType dtype, std::int64_t at, std::int64_t columns, const T* sums,
               T factor) {
  with_source<T>(dtype, [&]<class Out>(Out*) {
    Out* to = static_cast<Out*>(out) + at;
    for (std::int64_t d = 0; d < columns; ++d) narrow(sums[d] * factor, to + d);
  });
}

// Zeros for the tokens of batch element b that are missing, in columns [first, first + count) of a
// result of `columns`.
inline void clear_missing(const MaskView& mask, std::int64_t b, const MatrixView& side, void* out,
                          std::int64_t columns, std::int64_t first, std::int64_t count) {
  if (!mask.present() || out == nullptr) return;
  const auto bytes = static_cast<std::int64_t>(size_of(side.dtype));
  for (std::int64_t i = 0; i < side.rows; ++i) {
    if (mask(b, i)) continue;
    char* row = static_cast<char*>(out) + ((b * side.rows + i) * columns + first) * bytes;
    std::fill_n(row, count * bytes, char{0});
  }
}

inline void clear_missing(const MaskView& mask, std::int64_t b, const MatrixView& side, void* out,
                          std::int64_t columns) {
  clear_missing(mask, b, side, out, columns, 0, columns);
}

// Calls body(unit, p, token) on all workers for the p-th token present, token number `token`, of
// each unit; a batch element has `units_each` of them.
template <class F>
void each_token(const Executor& executor, std::int64_t units, std::int64_t units_each,
                const Presence& present, F&& body) {
  constexpr std::int64_t kPerTask = 64;
  const std::int64_t chunks = ceil_div(present.tokens(), kPerTask);
  executor.run(units * chunks, [&](std::int64_t task, int) {
    const std::int64_t unit = task / chunks, first = task % chunks * kPerTask;
    const PresentTokens tokens = present.of(unit / units_each);
    const std::int64_t end = std::min(tokens.count, first + kPerTask);
    for (std::int64_t p = first; p < end; ++p) body(unit, p, tokens(p));
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
