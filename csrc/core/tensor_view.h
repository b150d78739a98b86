// Strided views of memory that somebody else owns: the only form in which a kernel sees a tensor.
//
// Strides count elements, may be zero (an expanded dimension) or negative (a flipped NumPy array).
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusionops {

enum class DType : std::uint8_t { float64, float32, bfloat16, float16 };

// The type that sums are accumulated in: float64 for float64, float32 for all else.
inline bool accumulates_in_double(DType dtype) { return dtype == DType::float64; }

inline std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return 8;
    case DType::float32:
      return 4;
    default:
      return 2;
  }
}

// A batch of matrices: [batch, rows, columns].
struct MatrixView {
  const void* data = nullptr;
  DType dtype = DType::float32;
  std::int64_t batch = 1, rows = 0, columns = 0;
  std::int64_t batch_stride = 0, row_stride = 0, column_stride = 1;

  template <class T>
  const T* at(std::int64_t b, std::int64_t row, std::int64_t column) const {
    return static_cast<const T*>(data) + b * batch_stride + row * row_stride +
           column * column_stride;
  }
};

// A fresh result [batch, rows, columns], contiguous.
struct MatrixOutput {
  void* data = nullptr;
  DType dtype = DType::float32;
  std::int64_t batch = 1, rows = 0, columns = 0;
};

// One scale a row, [batch, rows] contiguous, in the accumulation type; a null pointer means ones.
using Scale = const void*;

// A bool mask [rows or 1, columns]; row_stride is 0 where one row serves all.
struct MaskView {
  const std::uint8_t* data = nullptr;
  std::int64_t row_stride = 0, column_stride = 0;

  bool present() const { return data != nullptr; }
  bool operator()(std::int64_t row, std::int64_t column) const {
    return data[row * row_stride + column * column_stride] != 0;
  }
};

}  // namespace fusionops
