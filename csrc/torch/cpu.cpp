// The CPU implementations: unpack tensors, allocate the result, call the kernel.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/kernels.h"
#include "torch/box.h"
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
  check_device(indices, "indices");
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

// What both losses take; the tensors keep what the views point at alive.
struct Logits {
  Logits(const Tensor& user, const Tensor& item, const OptionalTensor& user_scale,
         const OptionalTensor& item_scale, const OptionalTensor& item_bias) {
    args.user = matrix(user, 2, "user");
    args.item = matrix(item, 2, "item");
    check_pair(args.user, args.item, "user and item");
    STD_TORCH_CHECK(args.user.columns == args.item.columns,
                    "user and item must have the same width");
    us = scale(user_scale, args.user.rows, args.user.dtype, "user_scale");
    is = scale(item_scale, args.item.rows, args.user.dtype, "item_scale");
    bias = scale(item_bias, args.item.rows, args.user.dtype, "item_bias");
    args.user_scale = data(us);
    args.item_scale = data(is);
    args.item_bias = data(bias);
  }

  ScalarType accumulator() const { return accumulator_of(args.user.dtype); }

  cpu::LogitArgs args;
  OptionalTensor us, is, bias;
};

// Fresh gradients of the logits' inputs; empty where they are not wanted.
struct Gradients {
  Gradients(const Logits& logits, const Tensor& user_like, const Tensor& item_like,
            bool user_wanted, bool item_wanted, bool bias_wanted)
      : user(empty<2>({user_wanted ? logits.args.user.rows : 0, logits.args.user.columns},
                      user_like.scalar_type())),
        item(empty<2>({item_wanted ? logits.args.item.rows : 0, logits.args.item.columns},
                      item_like.scalar_type())),
        user_scale(empty<1>({user_wanted ? logits.args.user.rows : 0}, logits.accumulator())),
        item_scale(empty<1>({item_wanted ? logits.args.item.rows : 0}, logits.accumulator())),
        bias(empty<1>({bias_wanted ? logits.args.item.rows : 0}, logits.accumulator())) {
    if (user_wanted) out.user = user.mutable_data_ptr();
    if (user_wanted) out.user_scale = user_scale.mutable_data_ptr();
    if (item_wanted) out.item = item.mutable_data_ptr();
    if (item_wanted) out.item_scale = item_scale.mutable_data_ptr();
    if (bias_wanted) out.item_bias = bias.mutable_data_ptr();
  }

  Tensor user, item, user_scale, item_scale, bias;
  cpu::LogitGradients out;
};

const int64_t* integers_of(const OptionalTensor& t, int64_t size, const char* name) {
  if (!t.has_value()) return nullptr;
  STD_TORCH_CHECK(t->numel() == size, name, " must have ", size, " elements, got ", t->numel());
  return static_cast<const int64_t*>(t->const_data_ptr());
}

std::tuple<Tensor, Tensor> fusion_cross_entropy(
    const Tensor& user, const Tensor& item, const Tensor& target, const OptionalTensor& user_scale,
    const OptionalTensor& item_scale, const OptionalTensor& item_bias,
    const OptionalTensor& exclude_offsets, const OptionalTensor& exclude_indices,
    double label_smoothing, int64_t ignore_index, double /*skip_below: of the backward*/) {
  const Logits logits(user, item, user_scale, item_scale, item_bias);
  const int64_t users = logits.args.user.rows;
  const auto t = integers(target, "target");
  const auto eo = integers(exclude_offsets, "exclude"), ei = integers(exclude_indices, "exclude");
  cpu::FusionCrossEntropyArgs args;
  args.logits = logits.args;
  args.target = integers_of(t, users, "target");
  args.exclude = ragged(eo, ei, users, "exclude");
  args.label_smoothing = label_smoothing;
  args.ignore_index = ignore_index;
  Tensor loss = empty<1>({users}, logits.accumulator());
  Tensor statistics = empty<2>({2, users}, logits.accumulator());
  args.loss = loss.mutable_data_ptr();
  args.statistics = statistics.mutable_data_ptr();
  cpu::kernels().fusion_cross_entropy(args, TorchExecutor());
  return {loss, statistics};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> fusion_cross_entropy_backward(
    const Tensor& grad, const Tensor& statistics, const Tensor& user, const Tensor& item,
    const Tensor& target, const OptionalTensor& user_scale, const OptionalTensor& item_scale,
    const OptionalTensor& item_bias, const OptionalTensor& exclude_offsets,
    const OptionalTensor& exclude_indices, double label_smoothing, int64_t ignore_index,
    double skip_below, bool user_wanted, bool item_wanted, bool bias_wanted) {
  const Logits logits(user, item, user_scale, item_scale, item_bias);
  const int64_t users = logits.args.user.rows;
  const auto t = integers(target, "target");
  const auto eo = integers(exclude_offsets, "exclude"), ei = integers(exclude_indices, "exclude");
  const auto g = scale(grad, users, logits.args.user.dtype, "grad");
  const auto s = scale(statistics, 2 * users, logits.args.user.dtype, "statistics");
  cpu::FusionCrossEntropyBackwardArgs args;
  args.forward.logits = logits.args;
  args.forward.target = integers_of(t, users, "target");
  args.forward.exclude = ragged(eo, ei, users, "exclude");
  args.forward.label_smoothing = label_smoothing;
  args.forward.ignore_index = ignore_index;
  args.forward.statistics = const_cast<void*>(data(s));
  args.skip_below = skip_below;
  args.grad = data(g);
  Gradients out(logits, user, item, user_wanted, item_wanted, bias_wanted);
  args.out = out.out;
  cpu::kernels().fusion_cross_entropy_backward(args, TorchExecutor());
  return {out.user, out.item, out.user_scale, out.item_scale, out.bias};
}

std::tuple<Tensor, Tensor> fusion_contrastive(const Tensor& user, const Tensor& item,
                                              const OptionalTensor& user_scale,
                                              const OptionalTensor& item_scale,
                                              const OptionalTensor& ids) {
  const Logits logits(user, item, user_scale, item_scale, std::nullopt);
  const int64_t rows = logits.args.user.rows;
  STD_TORCH_CHECK(rows == logits.args.item.rows, "user and item must have the same rows");
  const auto i = integers(ids, "ids");
  cpu::FusionContrastiveArgs args;
  args.logits = logits.args;
  args.ids = integers_of(i, rows, "ids");
  Tensor loss = empty<1>({rows}, logits.accumulator());
  Tensor statistics = empty<2>({4, rows}, logits.accumulator());
  args.loss = loss.mutable_data_ptr();
  args.statistics = statistics.mutable_data_ptr();
  cpu::kernels().fusion_contrastive(args, TorchExecutor());
  return {loss, statistics};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> fusion_contrastive_backward(
    const Tensor& grad, const Tensor& statistics, const Tensor& user, const Tensor& item,
    const OptionalTensor& user_scale, const OptionalTensor& item_scale, const OptionalTensor& ids,
    bool user_wanted, bool item_wanted) {
  const Logits logits(user, item, user_scale, item_scale, std::nullopt);
  const int64_t rows = logits.args.user.rows;
  STD_TORCH_CHECK(rows == logits.args.item.rows, "user and item must have the same rows");
  const auto i = integers(ids, "ids");
  const auto g = scale(grad, rows, logits.args.user.dtype, "grad");
  const auto s = scale(statistics, 4 * rows, logits.args.user.dtype, "statistics");
  cpu::FusionContrastiveBackwardArgs args;
  args.forward.logits = logits.args;
  args.forward.ids = integers_of(i, rows, "ids");
  args.forward.statistics = const_cast<void*>(data(s));
  args.grad = data(g);
  Gradients out(logits, user, item, user_wanted, item_wanted, false);
  args.out = out.out;
  cpu::kernels().fusion_contrastive_backward(args, TorchExecutor());
  return {out.user, out.item, out.user_scale, out.item_scale};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusionops, CPU, m) {
  FUSIONOPS_IMPL(m, inverse_norm);
  FUSIONOPS_IMPL(m, fusion_matrix);
  FUSIONOPS_IMPL(m, fusion_contract);
  FUSIONOPS_IMPL(m, fusion_topk);
  FUSIONOPS_IMPL(m, fusion_topk_backward);
  FUSIONOPS_IMPL(m, fusion_cross_entropy);
  FUSIONOPS_IMPL(m, fusion_cross_entropy_backward);
  FUSIONOPS_IMPL(m, fusion_contrastive);
  FUSIONOPS_IMPL(m, fusion_contrastive_backward);
}

}  // namespace fusionops::torch_face
