// The CPU implementations: unpack tensors, allocate the result, call the kernel.
#include <torch/csrc/stable/library.h>

#include <tuple>
#include <type_traits>

#include "cpu/kernels.h"
#include "torch/executor.h"
#include "torch/unpack.h"

namespace fusionops::torch_face {
namespace {

Tensor inverse_norm(const Tensor& x, double eps) {
  cpu::InverseNormArgs args;
  args.x = matrix(x, 3, "x");
  args.eps = eps;
  Tensor out = empty<2>({args.x.batch, args.x.rows}, accumulator_of(args.x.dtype));
  args.out = out.mutable_data_ptr();
  cpu::kernels().inverse_norm(args, TorchExecutor());
  return out;
}

Tensor fusion_matrix(const Tensor& user, const Tensor& item, const OptionalTensor& user_scale,
                     const OptionalTensor& item_scale, const std::optional<ScalarType>& dtype) {
  cpu::FusionMatrixArgs args;
  args.user = matrix(user, 3, "user");
  args.item = matrix(item, 3, "item");
  check_pair(args.user, args.item, "user and item");
  STD_TORCH_CHECK(args.user.columns == args.item.columns,
                  "user and item must have the same width, got ", args.user.columns, " and ",
                  args.item.columns);
  const int64_t batch = args.user.batch, users = args.user.rows, items = args.item.rows;
  const auto us = scale(user_scale, batch * users, args.user.dtype, "user_scale");
  const auto is = scale(item_scale, batch * items, args.user.dtype, "item_scale");
  args.user_scale = data(us);
  args.item_scale = data(is);
  const ScalarType type = dtype.value_or(item.scalar_type());
  Tensor out = empty<3>({batch, users, items}, type);
  args.out = {out.mutable_data_ptr(), dtype_of(type), batch, users, items};
  cpu::kernels().fusion_matrix(args, TorchExecutor());
  return out;
}

Tensor fusion_contract(const Tensor& left, const Tensor& right, const OptionalTensor& scales,
                       const std::optional<ScalarType>& dtype) {
  cpu::FusionContractArgs args;
  args.left = matrix(left, 3, "left");
  args.right = matrix(right, 3, "right");
  check_pair(args.left, args.right, "left and right");
  STD_TORCH_CHECK(args.left.rows == args.right.rows,
                  "left and right must have the same number of rows, got ", args.left.rows, " and ",
                  args.right.rows);
  const int64_t batch = args.left.batch;
  const auto s = scale(scales, batch * args.left.rows, args.left.dtype, "scale");
  args.scale = data(s);
  const ScalarType type = dtype.value_or(right.scalar_type());
  Tensor out = empty<3>({batch, args.left.columns, args.right.columns}, type);
  args.out = {out.mutable_data_ptr(), dtype_of(type), batch, args.left.columns, args.right.columns};
  cpu::kernels().fusion_contract(args, TorchExecutor());
  return out;
}

std::tuple<Tensor, Tensor> fusion_topk(
    const Tensor& user, const Tensor& item, int64_t k, const OptionalTensor& user_scale,
    const OptionalTensor& item_scale, const OptionalTensor& item_bias,
    const OptionalTensor& exclude_offsets, const OptionalTensor& exclude_indices,
    const OptionalTensor& allowed, const OptionalTensor& candidate_offsets,
    const OptionalTensor& candidate_indices) {
  cpu::FusionTopkArgs args;
  args.user = matrix(user, 2, "user");
  args.item = matrix(item, 2, "item");
  check_pair(args.user, args.item, "user and item");
  STD_TORCH_CHECK(args.user.columns == args.item.columns && k >= 1,
                  "user and item must have the same width and k must be at least 1");
  const int64_t users = args.user.rows, items = args.item.rows;
  const auto us = scale(user_scale, users, args.user.dtype, "user_scale");
  const auto is = scale(item_scale, items, args.user.dtype, "item_scale");
  const auto bias = scale(item_bias, items, args.user.dtype, "item_bias");
  const auto eo = integers(exclude_offsets, "exclude"), ei = integers(exclude_indices, "exclude");
  const auto co = integers(candidate_offsets, "candidates");
  const auto ci = integers(candidate_indices, "candidates");
  args.k = k;
  args.user_scale = data(us);
  args.item_scale = data(is);
  args.item_bias = data(bias);
  args.exclude = ragged(eo, ei, users, "exclude");
  args.candidates = ragged(co, ci, users, "candidates");
  args.allowed = mask(allowed, users, items, "allowed");
  Tensor scores = empty<2>({users, k}, accumulator_of(args.user.dtype));
  Tensor indices = empty<2>({users, k}, ScalarType::Long);
  args.scores = scores.mutable_data_ptr();
  args.indices = static_cast<int64_t*>(indices.mutable_data_ptr());
  cpu::kernels().fusion_topk(args, TorchExecutor());
  return {scores, indices};
}

std::tuple<Tensor, Tensor, Tensor> fusion_topk_backward(const Tensor& grad, const Tensor& indices,
                                                        const Tensor& user, const Tensor& item,
                                                        const OptionalTensor& user_scale,
                                                        const OptionalTensor& item_scale) {
  cpu::FusionTopkBackwardArgs args;
  args.user = matrix(user, 2, "user");
  args.item = matrix(item, 2, "item");
  check_pair(args.user, args.item, "user and item");
  const int64_t users = args.user.rows, items = args.item.rows;
  STD_TORCH_CHECK(indices.dim() == 2 && indices.size(0) == users,
                  "indices must have one row a user");
  const int64_t k = indices.size(1);
  const auto g = scale(grad, users * k, args.user.dtype, "grad");
  check_cpu(indices, "indices");
  STD_TORCH_CHECK(indices.scalar_type() == ScalarType::Long, "indices must be an int64 tensor");
  const Tensor chosen = torch::stable::contiguous(indices);
  const auto us = scale(user_scale, users, args.user.dtype, "user_scale");
  const auto is = scale(item_scale, items, args.user.dtype, "item_scale");
  args.grad = data(g);
  args.indices = static_cast<const int64_t*>(chosen.const_data_ptr());
  args.k = k;
  args.user_scale = data(us);
  args.item_scale = data(is);
  const ScalarType type = accumulator_of(args.user.dtype);
  Tensor user_sum = empty<2>({users, args.user.columns}, type);
  Tensor item_sum = empty<2>({items, args.item.columns}, type);
  Tensor bias_sum = empty<1>({items}, type);
  args.user_sum = user_sum.mutable_data_ptr();
  args.item_sum = item_sum.mutable_data_ptr();
  args.bias_sum = bias_sum.mutable_data_ptr();
  cpu::kernels().fusion_topk_backward(args, TorchExecutor());
  return {user_sum, item_sum, bias_sum};
}

// The stack carries schema `float` as double and `int` as int64_t; a kernel that takes float or
// int32_t would compile and read garbage, so such a signature is refused here.
template <class T>
constexpr bool kSafeToBox = !std::is_same_v<std::remove_cvref_t<T>, float> &&
                            !(std::is_integral_v<std::remove_cvref_t<T>> &&
                              !std::is_same_v<std::remove_cvref_t<T>, int64_t> &&
                              !std::is_same_v<std::remove_cvref_t<T>, bool>);

template <class Result, class... Args>
constexpr bool safe_to_box(Result (*)(Args...)) {
  return (kSafeToBox<Args> && ...);
}

#define FUSIONOPS_IMPL(library, name)                                              \
  static_assert(safe_to_box(&name), #name ": take double and int64_t, see above"); \
  library.impl(#name, TORCH_BOX(&name))

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusionops, CPU, m) {
  FUSIONOPS_IMPL(m, inverse_norm);
  FUSIONOPS_IMPL(m, fusion_matrix);
  FUSIONOPS_IMPL(m, fusion_contract);
  FUSIONOPS_IMPL(m, fusion_topk);
  FUSIONOPS_IMPL(m, fusion_topk_backward);
}

}  // namespace fusionops::torch_face
