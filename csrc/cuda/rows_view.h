// From the views of tensors to those of kernels.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"
#include "cuda/score_rows.cuh"

namespace fusionops::cuda {

// The rows of one batch of a side; a kernel adds batch * batch_stride to the data.
inline Rows rows_of(const MatrixView& view) {
  const auto size = static_cast<std::int64_t>(size_of(view.dtype));
  Rows rows{static_cast<const char*>(view.data),
            view.rows,
            view.row_stride * size,
            view.column_stride * size,
            nullptr,
            static_cast<std::int32_t>(view.columns),
            0};
  if (view.columns == 0 || (view.column_stride != 1 && view.columns != 1)) return rows;
  // The least power of two in any address that a row begins at.
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  const auto bits = address | static_cast<std::uintptr_t>(rows.row_stride) |
                    static_cast<std::uintptr_t>(view.batch > 1 ? view.batch_stride * size : 0);
  for (const int bytes : {16, 8, 4}) {
    if (bits % static_cast<std::uintptr_t>(bytes) == 0) {
      rows.copy_bytes = bytes;
      break;
    }
  }
  return rows;
}

}  // namespace fusionops::cuda
