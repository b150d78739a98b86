// weighted_fusion: unpack tensors, allocate the results, call the kernels.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/kernels.h"
#include "torch/box.h"
#include "torch/executor.h"
#include "torch/unpack.h"

namespace fusionops::torch_face {
namespace {

cpu::WeightedFusionArgs inputs(const Tensor& values, const Tensor& logits,
                               const OptionalTensor& presence) {
  cpu::WeightedFusionArgs args;
  args.values = matrix(values, 3, "values");
  const int64_t batch = args.values.batch, tokens = args.values.rows;
  check_device(logits, "logits");
  const int64_t dims = logits.dim();
  STD_TORCH_CHECK(
      (dims == 1 || (dims == 2 && logits.size(0) == batch)) && logits.size(dims - 1) == tokens,
      "logits must have the shape [", tokens, "] or [", batch, ", ", tokens, "]");
  STD_TORCH_CHECK(logits.scalar_type() == accumulator_of(args.values.dtype),
                  "logits must have the accumulation dtype (float64 for float64, else float32)");
  args.logits.data = logits.const_data_ptr();
  args.logits.dtype = dtype_of(logits.scalar_type());
  args.logits.rows = dims == 2 ? batch : 1;
  args.logits.columns = tokens;
  args.logits.row_stride = dims == 2 ? logits.stride(0) : 0;
  args.logits.column_stride = logits.stride(dims - 1);
  args.mask = mask(presence, batch, tokens, "mask");
  return args;
}

Tensor weighted_fusion(const Tensor& values, const Tensor& logits, const OptionalTensor& mask) {
  cpu::WeightedFusionArgs args = inputs(values, logits, mask);
  Tensor out = empty<2>({args.values.batch, args.values.columns}, values.scalar_type());
  args.out = out.mutable_data_ptr();
  cpu::kernels().weighted_fusion(args, TorchExecutor());
  return out;
}

std::tuple<Tensor, Tensor> weighted_fusion_backward(const Tensor& grad, const Tensor& values,
                                                    const Tensor& logits,
                                                    const OptionalTensor& mask, bool values_wanted,
                                                    bool logits_wanted) {
  cpu::WeightedFusionBackwardArgs args;
  args.forward = inputs(values, logits, mask);
  const MatrixView& tokens = args.forward.values;
  args.grad = matrix(grad, 2, "grad");
  STD_TORCH_CHECK(args.grad.rows == tokens.batch && args.grad.columns == tokens.columns &&
                      args.grad.dtype == tokens.dtype,
                  "grad must have the shape and the dtype of the result");
  Tensor grad_values = empty<3>({values_wanted ? tokens.batch : 0, tokens.rows, tokens.columns},
                                values.scalar_type());
  const bool shared = logits.dim() == 1;
  Tensor grad_logits =
      shared ? empty<1>({logits_wanted ? tokens.rows : 0}, logits.scalar_type())
             : empty<2>({logits_wanted ? tokens.batch : 0, tokens.rows}, logits.scalar_type());
  if (values_wanted) args.grad_values = grad_values.mutable_data_ptr();
  if (logits_wanted) args.grad_logits = grad_logits.mutable_data_ptr();
  cpu::kernels().weighted_fusion_backward(args, TorchExecutor());
  return {grad_values, grad_logits};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusionops, CPU, m) {
  FUSIONOPS_IMPL(m, weighted_fusion);
  FUSIONOPS_IMPL(m, weighted_fusion_backward);
}

}  // namespace fusionops::torch_face
