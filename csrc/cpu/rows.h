// Sums over rows that stand anywhere in memory, in any dtype and at any stride of columns.
//
//   add_rows   sum_i weights[i] * rows[i], a few vectors of columns at a time in registers
//   dot        row . vector, as a vector of partial sums; DotQueue folds these many at a time
//
// Columns side by side are read as vectors where they stand; others, and the last few, go through
// a small buffer. Which of the two does not change a bit. Chains of at most kChain roundings.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cpu/exp.h"
#include "cpu/pack.h"
#include "cpu/simd.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// What elements are accumulated in.
template <class Source>
using Accumulator = std::conditional_t<std::is_same_v<Source, double>, double, float>;

inline constexpr std::int64_t kChain = 256;

// Asks for a row whose columns stand side by side.
template <class Source>
[[gnu::always_inline]] inline void prefetch_row(const Source* row, std::int64_t columns) {
  constexpr std::int64_t kLine = 64 / sizeof(Source);
  for (std::int64_t d = 0; d < columns; d += kLine) __builtin_prefetch(row + d);
}

// The first `lanes` elements from p on, `stride` apart; the lanes beyond are 0.
template <class Source, class T = Accumulator<Source>>
[[gnu::always_inline]] inline Vec<T> load_some(const Source* p, std::int64_t stride, int lanes) {
  if (stride == 1 && lanes == Vec<T>::kSize) return load_widened(p);
  alignas(64) T buffer[Vec<T>::kSize] = {};
  for (int i = 0; i < lanes; ++i) buffer[i] = widen(p[i * stride]);
  return Vec<T>::load(buffer);
}

// A row of `columns` in the accumulation type, side by side, with zeros up to whole vectors.
template <class T, class Source>
void widen_row(const Source* row, std::int64_t stride, std::int64_t columns, T* out) {
  constexpr std::int64_t kSize = Vec<T>::kSize;
  if constexpr (std::is_same_v<Accumulator<Source>, T>) {
    for (std::int64_t d = 0; d < columns; d += kSize) {
      const auto lanes = static_cast<int>(std::min(kSize, columns - d));
      load_some(row + d * stride, stride, lanes).store(out + d);
    }
  }
}

template <class T, class Out>
[[gnu::always_inline]] inline void store_some(Vec<T> v, Out* out, int lanes, bool streams) {
  if constexpr (std::is_same_v<T, Out>) {
    if (lanes == Vec<T>::kSize) return streams ? v.stream(out) : v.store(out);
  }
  alignas(64) T buffer[Vec<T>::kSize];
  v.store(buffer);
  if (lanes == Vec<T>::kSize) {
    for (int i = 0; i < Vec<T>::kSize; ++i) narrow(buffer[i], out + i);
  } else {
    for (int i = 0; i < lanes; ++i) narrow(buffer[i], out + i);
  }
}

// Whether a fresh [*, columns] result can take streaming stores, and is too large for any cache.
template <class Out>
bool can_stream(const void* out, std::int64_t rows, std::int64_t columns) {
  using T = Accumulator<Out>;
  constexpr std::int64_t kStreamBytes = 8 << 20;
  constexpr std::int64_t kVector = sizeof(Vec<T>);
  const auto row = columns * static_cast<std::int64_t>(sizeof(Out));
  return std::is_same_v<T, Out> && row % kVector == 0 &&
         reinterpret_cast<std::uintptr_t>(out) % kVector == 0 && rows * row >= kStreamBytes;
}

// Calls step<kVectors>(first column, lanes) over all columns: by four vectors, then one, then what
// is left of one; by one where they do not stand side by side.
template <class T, class Step>
[[gnu::always_inline]] inline void by_vectors(std::int64_t columns, std::int64_t stride,
                                              Step&& step) {
  constexpr int kSize = Vec<T>::kSize;
  std::int64_t d = 0;
  if (stride == 1) {
    for (; d + 4 * kSize <= columns; d += 4 * kSize) step.template operator()<4>(d, kSize);
  }
  for (; d + kSize <= columns; d += kSize) step.template operator()<1>(d, kSize);
  if (d < columns) step.template operator()<1>(d, static_cast<int>(columns - d));
}

struct NoFetch {
  void operator()(std::int64_t) const {}
};

// Calls emit(first column, sum, lanes) for each vector of sum_i weights[i] * rows[i], and fetch(i)
// on the way through the rows: where the caller asks for rows to come.
template <class Source, class T, class Emit, class Fetch = NoFetch>
[[gnu::always_inline]] inline void add_rows(const Source* const* rows, const T* weights,
                                            std::int64_t count, std::int64_t stride,
                                            std::int64_t columns, Emit&& emit, Fetch&& fetch = {}) {
  using V = Vec<T>;
  by_vectors<T>(columns, stride, [&]<int kVectors>(std::int64_t d, int lanes) {
    V total[kVectors];
    for (V& sum : total) sum = V::broadcast(0);
    for (std::int64_t first = 0; first < count; first += kChain) {
      V part[kVectors];
      for (V& sum : part) sum = V::broadcast(0);
      const std::int64_t end = std::min(count, first + kChain);
      for (std::int64_t i = first; i < end; ++i) {
        const V weight = V::broadcast(weights[i]);
        if (d == 0) fetch(i);
        for (int j = 0; j < kVectors; ++j) {
          const Source* p = rows[i] + (d + j * V::kSize) * stride;
          const V row = kVectors > 1 ? load_widened(p) : load_some(p, stride, lanes);
          part[j] = fused_multiply_add(weight, row, part[j]);
        }
      }
      for (int j = 0; j < kVectors; ++j) total[j] = total[j] + part[j];
    }
    for (int j = 0; j < kVectors; ++j) emit(d + j * V::kSize, total[j], lanes);
  });
}

// row . vector, whose columns stand side by side, as partial sums.
template <class Source, class T = Accumulator<Source>>
[[gnu::always_inline]] inline Vec<T> dot(const Source* row, std::int64_t stride, const T* vector,
                                         std::int64_t columns) {
  using V = Vec<T>;
  const V zero = V::broadcast(0);
  V sum[4] = {zero, zero, zero, zero}, total = zero;
  std::int64_t steps = 0;
  by_vectors<T>(columns, stride, [&]<int kVectors>(std::int64_t d, int lanes) {
    for (int j = 0; j < kVectors; ++j) {
      const std::int64_t c = d + j * V::kSize;
      const V left =
          kVectors > 1 ? load_widened(row + c) : load_some(row + c * stride, stride, lanes);
      sum[j] = fused_multiply_add(left, load_some(vector + c, 1, lanes), sum[j]);
    }
    if (++steps % kChain != 0) return;
    total = total + ((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (V& s : sum) s = zero;
  });
  return total + ((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// Dot products one after the other to `out`, whose size is rounded up to whole vectors.
template <class T>
class DotQueue {
 public:
  explicit DotQueue(T* out) : out_(out) {}

  void push(Vec<T> partial) {
    waiting_[count_] = partial;
    if (++count_ == Vec<T>::kSize) flush();
  }

  void flush() {
    if (count_ == 0) return;
    for (; count_ < Vec<T>::kSize; ++count_) waiting_[count_] = Vec<T>::broadcast(0);
    sums_of_lanes(waiting_).store(out_);
    out_ += Vec<T>::kSize;
    count_ = 0;
  }

 private:
  Vec<T> waiting_[Vec<T>::kSize];
  int count_ = 0;
  T* out_;
};

// Columns of a row as the accumulation type, side by side: the row itself, or a copy in `buffer`.
template <class Source, class T = Accumulator<Source>>
inline const T* side_by_side(const Source* row, std::int64_t stride, std::int64_t columns,
                             T* buffer) {
  if constexpr (std::is_same_v<T, Source>) {
    if (stride == 1) return row;
  }
  by_vectors<T>(columns, stride, [&]<int kVectors>(std::int64_t d, int lanes) {
    for (int j = 0; j < kVectors; ++j) {
      const std::int64_t c = d + j * Vec<T>::kSize;
      store_some(load_some(row + c * stride, stride, lanes), buffer + c, lanes, false);
    }
  });
  return buffer;
}

// Adds part[1], part[2], ... of `size` numbers each into part[0], in a tree that the number of
// parts decides.
template <class T>
inline void add_parts(T* parts, std::int64_t count, std::int64_t size) {
  for (std::int64_t step = 1; step < count; step *= 2) {
    for (std::int64_t i = 0; i + step < count; i += 2 * step) {
      for (std::int64_t k = 0; k < size; ++k) parts[i * size + k] += parts[(i + step) * size + k];
    }
  }
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
