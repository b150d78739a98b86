// The torch face of attention_fusion on CUDA.
#include "cuda/attention_fusion.h"

#include <tuple>

#include "torch/attention_sides.h"
#include "torch/box.h"
#include "torch/cuda/device.h"

namespace fusionops::torch_face {
namespace {

struct Sides : AttentionSides<cuda::AttentionFusionArgs> {
  template <class... Inputs>
  explicit Sides(double dropout_p, const OptionalTensor& seed, const Inputs&... inputs)
      : AttentionSides(inputs..., dropout_p, seed) {
    STD_TORCH_CHECK(std::max(args.query.rows, args.key.rows) <= cuda::kMostAttentionRows,
                    "attention_fusion on CUDA takes up to ", cuda::kMostAttentionRows,
                    " queries and tokens");
    STD_TORCH_CHECK(args.key.dtype != DType::float64, "attention_fusion on CUDA has no float64");
    if (dropout_p > 0) args.seed = seed_data(*seed);
  }
};

std::tuple<Tensor, Tensor, Tensor> attention_fusion(
    const Tensor& query, const Tensor& key, const OptionalTensor& value, const OptionalTensor& mask,
    const OptionalTensor& query_mask, int64_t num_heads, const std::optional<double>& scale,
    double dropout_p, const OptionalTensor& seed, bool weights_wanted) {
  Sides sides(dropout_p, seed, query, key, value, mask, query_mask, num_heads, scale);
  cuda::AttentionFusionArgs& args = sides.args;
  const DeviceScope device(key);
  const int64_t batch = sides.batch(), queries = args.query.rows,
                counted = weights_wanted ? batch : 0;
  Tensor out = empty_on<3>(key, {batch, queries, args.value.columns}, key.scalar_type());
  Tensor weights =
      empty_on<4>(key, {counted, num_heads, queries, args.key.rows}, sides.accumulator());
  Tensor log_sum = empty_on<3>(key, {batch, num_heads, queries}, sides.accumulator());
  args.out = out.mutable_data_ptr();
  if (weights_wanted) args.weights = static_cast<float*>(weights.mutable_data_ptr());
  args.log_sum = static_cast<float*>(log_sum.mutable_data_ptr());
  cuda::attention_fusion(args, device.stream());
  return {out, weights, log_sum};
}

// The softmax is made anew: neither `out` nor `log_sum` is read.
std::tuple<Tensor, Tensor, Tensor> attention_fusion_backward(
    const Tensor& grad, const OptionalTensor& grad_weights, const Tensor&, const Tensor&,
    const Tensor& query, const Tensor& key, const OptionalTensor& value, const OptionalTensor& mask,
    const OptionalTensor& query_mask, int64_t num_heads, const std::optional<double>& scale,
    double dropout_p, const OptionalTensor& seed, bool query_wanted, bool key_wanted,
    bool value_wanted) {
  const Sides sides(dropout_p, seed, query, key, value, mask, query_mask, num_heads, scale);
  const DeviceScope device(key);
  cuda::AttentionFusionBackwardArgs args;
  args.forward = sides.args;
  const cuda::AttentionFusionArgs& forward = args.forward;
  args.grad = sides.result(grad, "grad");
  const auto slopes = fusionops::torch_face::scale(grad_weights, sides.weights(), forward.key.dtype,
                                                   "grad_weights");
  args.grad_weights = static_cast<const float*>(data(slopes));
  args.value_is_key = !value.has_value();
  const auto gradient = [&](const MatrixView& side, bool wanted) {
    return empty_on<3>(key, {wanted ? side.batch : 0, side.rows, side.columns}, key.scalar_type());
  };
  Tensor query_out = gradient(forward.query, query_wanted);
  Tensor key_out = gradient(forward.key, key_wanted);
  Tensor value_out = gradient(forward.value, value_wanted && value.has_value());
  if (query_wanted) args.query = query_out.mutable_data_ptr();
  if (key_wanted) args.key = key_out.mutable_data_ptr();
  if (value_wanted && value.has_value()) args.value = value_out.mutable_data_ptr();
  const int64_t parts = cuda::attention_fusion_parts(args);
  Tensor query_parts =
      empty_on<3>(key, {parts, forward.query.rows, forward.query.columns}, ScalarType::Float);
  args.query_parts = static_cast<float*>(query_parts.mutable_data_ptr());
  cuda::attention_fusion_backward(args, device.stream());
  return {query_out, key_out, value_out};
}

}  // namespace

FUSIONOPS_CUDA_LIBRARY_IMPL(m) {
  FUSIONOPS_IMPL(m, attention_fusion);
  FUSIONOPS_IMPL(m, attention_fusion_backward);
}

}  // namespace fusionops::torch_face
