// The torch face of attention_fusion.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/kernels.h"
#include "torch/box.h"
#include "torch/executor.h"
#include "torch/unpack.h"

namespace fusionops::torch_face {
namespace {

// What both passes take; `value` is `key` where there is none.
struct Sides {
  Sides(const Tensor& query, const Tensor& key, const OptionalTensor& value,
        const OptionalTensor& mask_tensor, const OptionalTensor& query_mask, int64_t num_heads,
        const std::optional<double>& scale, double dropout_p, const OptionalTensor& seed) {
    args.query = matrix(query, 3, "query");
    args.key = matrix(key, 3, "key");
    args.value = value.has_value() ? matrix(*value, 3, "value") : args.key;
    check_pair(args.key, args.value, "key and value");
    STD_TORCH_CHECK(args.query.batch == 1 || args.query.batch == args.key.batch,
                    "query must have the batch size of key, or 1");
    STD_TORCH_CHECK(args.query.dtype == args.key.dtype && args.value.dtype == args.key.dtype,
                    "query, key and value must have the same dtype");
    STD_TORCH_CHECK(args.query.columns == args.key.columns && args.value.rows == args.key.rows,
                    "query must have the width of key, and value its number of tokens");
    STD_TORCH_CHECK(
        num_heads >= 1 && args.key.columns % num_heads == 0 && args.value.columns % num_heads == 0,
        "num_heads must divide the widths of key and value");
    STD_TORCH_CHECK(dropout_p >= 0 && dropout_p <= 1, "dropout_p must be in [0, 1]");
    STD_TORCH_CHECK(dropout_p == 0 || seed.has_value(), "dropout needs a seed");
    args.mask = mask(mask_tensor, batch(), args.key.rows, "mask");
    args.query_mask = mask(query_mask, batch(), args.query.rows, "query_mask");
    args.num_heads = num_heads;
    args.scale = score_scale(scale, args.key.columns / num_heads);
    args.dropout_p = dropout_p;
    if (dropout_p > 0) args.seed = seed_of(*seed);
  }

  int64_t batch() const { return args.key.batch; }
  ScalarType accumulator() const { return accumulator_of(args.key.dtype); }
  int64_t weights() const { return batch() * args.num_heads * args.query.rows * args.key.rows; }

  cpu::AttentionFusionArgs args;

 private:
  static int64_t seed_of(const Tensor& seed) {
    check_device(seed, "seed");
    STD_TORCH_CHECK(seed.scalar_type() == ScalarType::Long && seed.numel() == 1,
                    "seed must be one int64 number");
    return *static_cast<const int64_t*>(seed.const_data_ptr());
  }
};

std::tuple<Tensor, Tensor, Tensor> attention_fusion(
    const Tensor& query, const Tensor& key, const OptionalTensor& value, const OptionalTensor& mask,
    const OptionalTensor& query_mask, int64_t num_heads, const std::optional<double>& scale,
    double dropout_p, const OptionalTensor& seed, bool weights_wanted) {
  Sides sides(query, key, value, mask, query_mask, num_heads, scale, dropout_p, seed);
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
  const Sides sides(query, key, value, mask, query_mask, num_heads, scale, dropout_p, seed);
  cpu::AttentionFusionBackwardArgs args;
  args.forward = sides.args;
  const cpu::AttentionFusionArgs& forward = args.forward;
  args.grad = matrix(grad, 3, "grad");
  const MatrixView result = matrix(out, 3, "out");
  for (const MatrixView& view : {args.grad, result}) {
    STD_TORCH_CHECK(view.dtype == forward.key.dtype && view.batch == sides.batch() &&
                        view.rows == forward.query.rows && view.columns == forward.value.columns,
                    "grad and out must have the shape and dtype of the result");
  }
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
