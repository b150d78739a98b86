// history_fusion: unpack tensors, allocate the results, call the kernels.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/kernels.h"
#include "torch/box.h"
#include "torch/executor.h"
#include "torch/unpack.h"

namespace fusionops::torch_face {
namespace {

// The columns of a [rows, columns] tensor side by side: the tensor itself wherever they are.
Tensor side_by_side(const Tensor& t) {
  return t.dim() == 2 && t.stride(1) == 1 ? t : torch::stable::contiguous(t);
}

MatrixView rows_like(const Tensor& t, int64_t rows, const MatrixView& values, const char* name) {
  const MatrixView view = matrix(t, 2, name);
  STD_TORCH_CHECK(view.rows == rows && view.columns == values.columns && view.dtype == values.dtype,
                  name, " must have the shape [", rows, ", ", values.columns,
                  "] and the dtype of values");
  return view;
}

// What both directions take; the tensors keep what the views point at alive.
struct Inputs {
  Inputs(const Tensor& values, const Tensor& offset_tensor, const OptionalTensor& query_tensor,
         const OptionalTensor& weight_tensor, const OptionalTensor& id_tensor)
      : offsets(integers(offset_tensor, "offsets")), ids(integers(id_tensor, "ids")) {
    args.values = matrix(values, 2, "values");
    STD_TORCH_CHECK(offsets->numel() >= 1, "offsets must have at least one element");
    args.histories.offsets = static_cast<const int64_t*>(offsets->const_data_ptr());
    args.histories.rows = offsets->numel() - 1;
    args.histories.size = ids.has_value() ? ids->numel() : args.values.rows;
    if (ids.has_value()) {
      args.histories.indices = static_cast<const int64_t*>(ids->const_data_ptr());
    }
    STD_TORCH_CHECK(!query_tensor.has_value() || !weight_tensor.has_value(),
                    "query and weights exclude each other");
    if (query_tensor.has_value()) {
      query = side_by_side(*query_tensor);
      args.query = rows_like(*query, args.histories.rows, args.values, "query");
    }
    weights = scale(weight_tensor, args.histories.size, args.values.dtype, "weights");
    args.weights = data(weights);
  }

  ScalarType accumulator() const { return accumulator_of(args.values.dtype); }

  cpu::HistoryFusionArgs args;
  OptionalTensor offsets, ids, query, weights;
};

std::tuple<Tensor, Tensor> history_fusion(const Tensor& values, const Tensor& offsets,
                                          const OptionalTensor& query,
                                          const OptionalTensor& weights,
                                          const OptionalTensor& ids) {
  Inputs inputs(values, offsets, query, weights, ids);
  const int64_t rows = inputs.args.histories.rows;
  Tensor out = empty<2>({rows, inputs.args.values.columns}, values.scalar_type());
  Tensor statistics = empty<2>({2, query.has_value() ? rows : 0}, inputs.accumulator());
  inputs.args.out = out.mutable_data_ptr();
  inputs.args.statistics = statistics.mutable_data_ptr();
  cpu::kernels().history_fusion(inputs.args, TorchExecutor());
  return {out, statistics};
}

std::tuple<Tensor, Tensor, Tensor> history_fusion_backward(
    const Tensor& grad, const Tensor& statistics, const Tensor& values, const Tensor& offsets,
    const OptionalTensor& query, const OptionalTensor& weights, const OptionalTensor& ids,
    bool values_wanted, bool query_wanted, bool weights_wanted) {
  Inputs inputs(values, offsets, query, weights, ids);
  const MatrixView& rows = inputs.args.values;
  const int64_t histories = inputs.args.histories.rows;
  const auto s = scale(statistics, query.has_value() ? 2 * histories : 0, rows.dtype, "statistics");
  inputs.args.statistics = const_cast<void*>(data(s));
  const Tensor g = side_by_side(grad);
  cpu::HistoryFusionBackwardArgs args;
  args.forward = inputs.args;
  args.grad = rows_like(g, histories, rows, "grad");
  query_wanted = query_wanted && query.has_value();
  weights_wanted = weights_wanted && weights.has_value();
  Tensor toward_values =
      empty<2>({values_wanted ? rows.rows : 0, rows.columns}, values.scalar_type());
  Tensor toward_query =
      empty<2>({query_wanted ? histories : 0, rows.columns}, values.scalar_type());
  Tensor toward_weights =
      empty<1>({weights_wanted ? inputs.args.histories.size : 0}, inputs.accumulator());
  if (values_wanted) args.grad_values = toward_values.mutable_data_ptr();
  if (query_wanted) args.grad_query = toward_query.mutable_data_ptr();
  if (weights_wanted) args.grad_weights = toward_weights.mutable_data_ptr();
  cpu::kernels().history_fusion_backward(args, TorchExecutor());
  return {toward_values, toward_query, toward_weights};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusionops, CPU, m) {
  FUSIONOPS_IMPL(m, history_fusion);
  FUSIONOPS_IMPL(m, history_fusion_backward);
}

}  // namespace fusionops::torch_face
