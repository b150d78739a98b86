// Packing: rows of a strided matrix of any dtype become panels in the accumulation type.
//
// A panel holds `kWidth` rows side by side, [depth][kWidth], so that the tile kernel reads it
// front to back with full vectors. Rows beyond the last are zero. Packing is also where strides
// and dtypes end: nothing behind it knows of either.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/tensor_view.h"
#include "cpu/simd.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// Calls f with a null pointer of the C++ type that a dtype stands for.
template <class F>
decltype(auto) with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float64:
      return f(static_cast<double*>(nullptr));
    case DType::bfloat16:
      return f(static_cast<bfloat16*>(nullptr));
    case DType::float16:
      return f(static_cast<float16*>(nullptr));
    default:
      return f(static_cast<float*>(nullptr));
  }
}

// Calls f with a null pointer of the type that a dtype accumulates in.
template <class F>
decltype(auto) with_accumulator(DType dtype, F&& f) {
  if (accumulates_in_double(dtype)) return f(static_cast<double*>(nullptr));
  return f(static_cast<float*>(nullptr));
}

// Calls f with a null pointer of the C++ type of a side that accumulates in T, as its caller has
// checked of all sides: the other types are not compiled.
template <class T, class F>
decltype(auto) with_source(DType dtype, F&& f) {
  if constexpr (std::is_same_v<T, double>) {
    return f(static_cast<double*>(nullptr));
  } else {
    switch (dtype) {
      case DType::bfloat16:
        return f(static_cast<bfloat16*>(nullptr));
      case DType::float16:
        return f(static_cast<float16*>(nullptr));
      default:
        return f(static_cast<float*>(nullptr));
    }
  }
}

// Columns [begin, end) of every matrix.
inline MatrixView columns_of(MatrixView view, std::int64_t begin, std::int64_t end) {
  const std::int64_t bytes = static_cast<std::int64_t>(size_of(view.dtype));
  view.data = static_cast<const char*>(view.data) + begin * view.column_stride * bytes;
  view.columns = end - begin;
  return view;
}

// Blocks of kSize rows by kSize columns, transposed in registers: the d that were packed. Rows at
// and beyond `count` become zeros.
template <int kWidth, class Source, class RowPointer>
std::int64_t pack_blocks(RowPointer row, int count, std::int64_t depth, float* panel) {
  using V = Vec<float>;
  const std::int64_t whole = depth / V::kSize * V::kSize;
  constexpr std::int64_t kAhead = V::kSize;  // rows: hardware follows no sixteen streams
  for (int first = 0; first < kWidth; first += V::kSize) {
    const int lanes = std::min(V::kSize, kWidth - first);
    const Source* rows[V::kSize];
    for (int r = 0; r < V::kSize; ++r) rows[r] = first + r < count ? row(first + r) : nullptr;
    for (std::int64_t d = 0; d < whole; d += V::kSize) {
      V block[V::kSize];
#pragma GCC unroll 16
      for (int r = 0; r < V::kSize; ++r) {
        block[r] = rows[r] == nullptr ? V::broadcast(0) : load_widened(rows[r] + d);
        if (rows[r] != nullptr) __builtin_prefetch(rows[r] + d + kAhead * depth);
      }
      transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < V::kSize; ++i) {
        block[i].store_first(panel + (d + i) * kWidth + first, lanes);
      }
    }
  }
  return whole;
}

// One panel: panel[d * kWidth + r] = row(r)[d], for the `count` rows that row(r) points at.
template <int kWidth, class T, class Source, class RowPointer>
void pack_panel(RowPointer row, std::int64_t stride, int count, std::int64_t depth, T* panel) {
  std::int64_t begin = 0;
  if constexpr (std::is_same_v<T, float> && !std::is_same_v<Source, double>) {
    if (stride == 1) begin = pack_blocks<kWidth, Source>(row, count, depth, panel);
  }
  for (int r = 0; r < count; ++r) {
    const Source* source = row(r);
    T* out = panel + r;
    if (stride == 1) {  // written out, as the compiler then drops the multiplication by it
      for (std::int64_t d = begin; d < depth; ++d) {
        out[d * kWidth] = static_cast<T>(widen(source[d]));
      }
    } else {
      for (std::int64_t d = begin; d < depth; ++d) {
        out[d * kWidth] = static_cast<T>(widen(source[d * stride]));
      }
    }
  }
  if (count == kWidth) return;
  for (std::int64_t d = begin; d < depth; ++d) {
    for (int r = count; r < kWidth; ++r) panel[d * kWidth + r] = T(0);
  }
}

// Rows [begin, end) of one batch entry, panel after panel.
template <int kWidth, class T>
void pack_rows(const MatrixView& m, std::int64_t b, std::int64_t begin, std::int64_t end, T* out) {
  with_source<T>(m.dtype, [&]<class Source>(Source*) {
    for (std::int64_t first = begin; first < end; first += kWidth) {
      const int count = static_cast<int>(std::min<std::int64_t>(kWidth, end - first));
      const auto row = [&](int r) { return m.template at<Source>(b, first + r, 0); };
      pack_panel<kWidth, T, Source>(row, m.column_stride, count, m.columns, out);
      out += kWidth * m.columns;
    }
  });
}

// Columns of depth [begin, end) as panels of `kWidth` columns each: out[panel][d][c]. Each value
// is multiplied by scale[d] unless scale is null. This is how a product over rows is packed.
template <int kWidth, class T>
void pack_columns(const MatrixView& m, std::int64_t b, std::int64_t begin, std::int64_t end,
                  const T* scale, T* out) {
  const std::int64_t depth = end - begin;
  with_source<T>(m.dtype, [&]<class Source>(Source*) {
    for (std::int64_t first = 0; first < m.columns; first += kWidth, out += kWidth * depth) {
      const auto count = static_cast<int>(std::min<std::int64_t>(kWidth, m.columns - first));
      const Source* source = m.template at<Source>(b, begin, first);
      const auto copy = [&](std::int64_t d, int c, std::int64_t column_stride) {
        const T x = static_cast<T>(widen(source[d * m.row_stride + c * column_stride]));
        out[d * kWidth + c] = scale == nullptr ? x : x * scale[d];
      };
      if (m.row_stride == 1) {  // the transposed view of rows: read along memory
        for (int c = 0; c < count; ++c) {
          for (std::int64_t d = 0; d < depth; ++d) copy(d, c, m.column_stride);
        }
      } else if (m.column_stride == 1) {
        for (std::int64_t d = 0; d < depth; ++d) {
          for (int c = 0; c < count; ++c) copy(d, c, 1);
        }
      } else {
        for (std::int64_t d = 0; d < depth; ++d) {
          for (int c = 0; c < count; ++c) copy(d, c, m.column_stride);
        }
      }
      for (std::int64_t d = 0; d < depth; ++d) {
        for (int c = count; c < kWidth; ++c) out[d * kWidth + c] = T(0);
      }
    }
  });
}

// Rows times their scale as the right side of a product over rows: panels of kWidth columns,
// out[panel][row][column], `rows` rows each; columns beyond the depth are zero.
template <class T>
struct RowPanels {
  static constexpr int kWidth = Tile<T>::kWidth;

  T* data;
  std::int64_t rows;

  RightSide<T> panel(std::int64_t column, std::int64_t row) const {
    return {data + column * rows + row * kWidth, kWidth};
  }

  template <class Source>
  void set(std::int64_t row, const Source* from, std::int64_t stride, std::int64_t depth,
           T scale) const {
    for (std::int64_t first = 0; first < depth; first += kWidth) {
      T* out = data + first * rows + row * kWidth;
      const std::int64_t count = std::min<std::int64_t>(kWidth, depth - first);
      const Source* x = from + first * stride;
      if (stride == 1) {  // written out, as the compiler then drops the multiplication by it
        for (std::int64_t c = 0; c < count; ++c) out[c] = static_cast<T>(widen(x[c])) * scale;
      } else {
        for (std::int64_t c = 0; c < count; ++c) {
          out[c] = static_cast<T>(widen(x[c * stride])) * scale;
        }
      }
      std::fill(out + count, out + kWidth, T(0));
    }
  }
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
