// fusion_topk on a GPU: arguments, scratch memory and launcher.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/ragged.h"
#include "core/tensor_view.h"

namespace fusionops::cuda {

inline constexpr std::int64_t kLongestTopK = 1024;

// The k largest of (user[u] . item[p]) * user_scale[u] * item_scale[p] + item_bias[p] over p, k up
// to kLongestTopK. Both sides have one dtype, not float64; scales and biases are float32. There are
// less than 2^32 - 1 items. An index in a ragged list that is not an item's is left out.
struct FusionTopkArgs {
  MatrixView user, item;
  std::int64_t k = 1;
  const float *user_scale = nullptr, *item_scale = nullptr, *item_bias = nullptr;
  RaggedView exclude, candidates;
  MaskView allowed;
  float* scores = nullptr;          // [rows, k]
  std::int64_t* indices = nullptr;  // [rows, k]
  void* scratch = nullptr;          // fusion_topk_scratch(args) bytes
  bool allow_tf32 = false;          // float32 sides may be rounded to tf32
};

// By the shapes alone.
std::int64_t fusion_topk_scratch(const FusionTopkArgs& args);

void fusion_topk(const FusionTopkArgs& args, cudaStream_t stream);

}  // namespace fusionops::cuda
