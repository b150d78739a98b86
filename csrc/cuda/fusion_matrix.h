// fusion_matrix on a GPU: arguments and launcher.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/tensor_view.h"

namespace fusionops::cuda {

// out[b, u, p] = (user[b, u] . item[b, p]) * user_scale[b, u] * item_scale[b, p].
//
// Both sides have one dtype, and scales are in its accumulation type. out is float64 for float64,
// else of any other dtype.
struct FusionMatrixArgs {
  MatrixView user, item;
  Scale user_scale = nullptr, item_scale = nullptr;
  MatrixOutput out;
  bool allow_tf32 = false;  // float32 sides may be rounded to tf32
};

void fusion_matrix(const FusionMatrixArgs& args, cudaStream_t stream);

}  // namespace fusionops::cuda
