// attention_fusion for up to 32 queries and 32 tokens: arguments and launchers.
//
// The operator is that of csrc/cpu/kernels.h. float32, bfloat16 and float16; sums in float32.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/tensor_view.h"

namespace fusionops::cuda {

// A presence mask is one word.
inline constexpr std::int64_t kMostAttentionRows = 32;

struct AttentionFusionArgs {
  MatrixView query, key, value;  // query may have a batch of 1: all samples share it
  MaskView mask, query_mask;     // [batch, tokens] and [batch, queries]
  std::int64_t num_heads = 1;
  double scale = 1, dropout_p = 0;
  const std::int64_t* seed = nullptr;  // on the device; read where dropout_p > 0
  void* out = nullptr;                 // [batch, queries, width of value]
  float* weights = nullptr;            // [batch, heads, queries, tokens], or null
  float* log_sum = nullptr;            // [batch, heads, queries]: 0 where nothing is present
};

struct AttentionFusionBackwardArgs {
  AttentionFusionArgs forward;          // its results are not read: the softmax is made anew
  MatrixView grad;                      // of out
  const float* grad_weights = nullptr;  // as weights, or null
  // Dense, in the dtype of the side; a null pointer where one is not wanted. The query's has the
  // query's own batch. Where value is key, value's is null and key's is the sum of both.
  void *query = nullptr, *key = nullptr, *value = nullptr;
  bool value_is_key = false;
  // Room for the parts of query's gradient, where it has some.
  float* query_parts = nullptr;
};

// In how many parts, [queries, width] each, the gradient of the query is summed: by the shapes
// alone; none, but where samples share it.
std::int64_t attention_fusion_parts(const AttentionFusionBackwardArgs& args);

void attention_fusion(const AttentionFusionArgs& args, cudaStream_t stream);
void attention_fusion_backward(const AttentionFusionBackwardArgs& args, cudaStream_t stream);

}  // namespace fusionops::cuda
