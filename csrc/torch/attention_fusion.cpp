// The torch face of attention_fusion.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/kernels.h"
#include "torch/attention_sides.h"
#include "torch/box.h"
#include "torch/executor.h"

namespace fusionops::torch_face {
namespace {

struct Sides : AttentionSides<cpu::AttentionFusionArgs> {
  template <class... Inputs>
  explicit Sides(double dropout_p, const OptionalTensor& seed, const Inputs&... inputs)
      : AttentionSides(inputs..., dropout_p, seed) {
    if (dropout_p > 0) args.seed = *seed_data(*seed);
  }
};

std::tuple<Tensor, Tensor, Tensor> attention_fusion(
    const Tensor& query, const Tensor& key, const OptionalTensor& value, const OptionalTensor& mask,
    const OptionalTensor& query_mask, int64_t num_heads, const std::optional<double>& scale,
    double dropout_p, const OptionalTensor& seed, bool weights_wanted) {
  Sides sides(dropout_p, seed, query, key, value, mask, query_mask, num_heads, scale);
  cpu::AttentionFusionArgs& args = sides.args;
  const int64_t batch = sides.batch(), queries = args.query.rows, width = args.value.columns;
  Tensor out = empty<3>({batch, queries, width}, key.scalar_type());
  const int64_t counted = weights_wanted ? batch : 0;
  Tensor weights = empty<4>({counted, num_heads, queries, args.key.rows}, sides.accumulator());
  Tensor log_sum = empty<3>({batch, num_heads, queries}, sides.accumulator());
  args.out = {out.mutable_data_ptr(), args.key.dtype, batch, queries, width};
  if (weights_wanted) args.weights = weights.mutable_data_ptr();
  args.log_sum = log_sum.mutable_data_ptr();
  cpu::kernels().attention_fusion(args, TorchExecutor());
  return {out, weights, log_sum};
}

std::tuple<Tensor, Tensor, Tensor> attention_fusion_backward(
    const Tensor& grad, const OptionalTensor& grad_weights, const Tensor& out,
    const Tensor& log_sum, const Tensor& query, const Tensor& key, const OptionalTensor& value,
    const OptionalTensor& mask, const OptionalTensor& query_mask, int64_t num_heads,
    const std::optional<double>& scale, double dropout_p, const OptionalTensor& seed,
    bool query_wanted, bool key_wanted, bool value_wanted) {
  const Sides sides(dropout_p, seed, query, key, value, mask, query_mask, num_heads, scale);
  cpu::AttentionFusionBackwardArgs args;
  args.forward = sides.args;
  const cpu::AttentionFusionArgs& forward = args.forward;
  args.grad = sides.result(grad, "grad");
  const MatrixView result = sides.result(out, "out");
  const auto contiguous_out = torch::stable::contiguous(out);
  args.forward.out = {const_cast<void*>(contiguous_out.const_data_ptr()), result.dtype,
                      result.batch, result.rows, result.columns};
  const int64_t rows = sides.batch() * num_heads * forward.query.rows;
  const auto sums = fusionops::torch_face::scale(log_sum, rows, forward.key.dtype, "log_sum");
  const auto slopes = fusionops::torch_face::scale(grad_weights, sides.weights(), forward.key.dtype,
                                                   "grad_weights");
  args.forward.log_sum = const_cast<void*>(data(sums));
  args.grad_weights = data(slopes);
  args.value_is_key = !value.has_value();
  const auto gradient = [](const MatrixView& side, bool wanted, const Tensor& like) {
    return empty<3>({wanted ? side.batch : 0, side.rows, side.columns}, like.scalar_type());
  };
  Tensor query_out = gradient(forward.query, query_wanted, query);
  Tensor key_out = gradient(forward.key, key_wanted, key);
  Tensor value_out = gradient(forward.value, value_wanted && value.has_value(), key);
  if (query_wanted) args.query = query_out.mutable_data_ptr();
  if (key_wanted) args.key = key_out.mutable_data_ptr();
  if (value_wanted && value.has_value()) args.value = value_out.mutable_data_ptr();
  cpu::kernels().attention_fusion_backward(args, TorchExecutor());
  return {query_out, key_out, value_out};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusionops, CPU, m) {
  FUSIONOPS_IMPL(m, attention_fusion);
  FUSIONOPS_IMPL(m, attention_fusion_backward);
}

}  // namespace fusionops::torch_face
