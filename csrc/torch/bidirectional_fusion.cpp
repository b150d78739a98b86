// bidirectional_fusion for CPU tensors.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/kernels.h"
#include "torch/box.h"
#include "torch/executor.h"
#include "torch/unpack.h"

namespace fusionops::torch_face {
namespace {

using FourTensors = std::tuple<Tensor, Tensor, Tensor, Tensor>;

cpu::BidirectionalSide side(const Tensor& tokens, const OptionalTensor& value,
                            const OptionalTensor& mask_, const char* name) {
  cpu::BidirectionalSide s;
  s.tokens = matrix(tokens, 3, name);
  s.value_is_tokens = !value.has_value();
  s.value = value.has_value() ? matrix(*value, 3, name) : s.tokens;
  STD_TORCH_CHECK(s.value.batch == s.tokens.batch && s.value.rows == s.tokens.rows &&
                      s.value.dtype == s.tokens.dtype,
                  name, " and its values must be of one dtype and have the same tokens");
  s.mask = mask(mask_, s.tokens.batch, s.tokens.rows, name);
  return s;
}

cpu::BidirectionalFusionArgs arguments(const Tensor& user, const Tensor& item,
                                       const OptionalTensor& user_value,
                                       const OptionalTensor& item_value,
                                       const OptionalTensor& user_mask,
                                       const OptionalTensor& item_mask,
                                       const std::optional<double>& scale) {
  cpu::BidirectionalFusionArgs args;
  args.user = side(user, user_value, user_mask, "user");
  args.item = side(item, item_value, item_mask, "item");
  args.scale = score_scale(scale, args.user.tokens.columns);
  STD_TORCH_CHECK(args.user.tokens.batch == args.item.tokens.batch &&
                      args.user.tokens.columns == args.item.tokens.columns &&
                      args.user.tokens.dtype == args.item.tokens.dtype,
                  "user and item must have the same batch size, width and dtype");
  return args;
}

// A fresh result of a side, and the log-sum-exp of its tokens.
struct Fused {
  Fused(cpu::BidirectionalSide& s, int64_t width, ScalarType type)
      : fused(empty<3>({s.tokens.batch, s.tokens.rows, width}, type)),
        log_sum(empty<2>({s.tokens.batch, s.tokens.rows}, accumulator_of(s.tokens.dtype))) {
    s.fused = {fused.mutable_data_ptr(), s.tokens.dtype, s.tokens.batch, s.tokens.rows, width};
    s.log_sum = log_sum.mutable_data_ptr();
  }
  Tensor fused, log_sum;
};

FourTensors bidirectional_fusion(const Tensor& user, const Tensor& item,
                                 const OptionalTensor& user_value, const OptionalTensor& item_value,
                                 const OptionalTensor& user_mask, const OptionalTensor& item_mask,
                                 const std::optional<double>& scale) {
  auto args = arguments(user, item, user_value, item_value, user_mask, item_mask, scale);
  Fused from_item(args.user, args.item.value.columns, user.scalar_type());
  Fused from_user(args.item, args.user.value.columns, item.scalar_type());
  cpu::kernels().bidirectional_fusion(args, TorchExecutor());
  return {from_item.fused, from_user.fused, from_item.log_sum, from_user.log_sum};
}

// What the forward pass made of a side, read back; the tensors keep it alive.
struct Saved {
  Saved(cpu::BidirectionalSide& s, int64_t width, const Tensor& fused_, const Tensor& log_sum_,
        const char* name)
      : fused(torch::stable::contiguous(fused_)),
        log_sum(scale(log_sum_, s.tokens.batch * s.tokens.rows, s.tokens.dtype, name)) {
    check_device(fused, name);
    STD_TORCH_CHECK(fused.numel() == s.tokens.batch * s.tokens.rows * width &&
                        dtype_of(fused.scalar_type()) == s.tokens.dtype,
                    name, "'s result must have its tokens and dtype, and the width of the values");
    s.fused = {const_cast<void*>(fused.const_data_ptr()), s.tokens.dtype, s.tokens.batch,
               s.tokens.rows, width};
    s.log_sum = const_cast<void*>(data(log_sum));
  }
  Tensor fused;
  OptionalTensor log_sum;
};

// Fresh gradients of a side; empty where they are not wanted.
struct Gradients {
  Gradients(const cpu::BidirectionalSide& s, const Tensor& grad, ScalarType type,
            bool tokens_wanted, bool value_wanted, const char* name)
      : tokens(make(s.tokens, type, tokens_wanted)),
        value(make(s.value, type, value_wanted && !s.value_is_tokens)) {
    out.fused = matrix(grad, 3, name);
    STD_TORCH_CHECK(out.fused.batch == s.tokens.batch && out.fused.rows == s.tokens.rows &&
                        out.fused.columns == s.fused.columns,
                    name, "'s gradient must have the shape of its result");
    STD_TORCH_CHECK(accumulates_in_double(out.fused.dtype) == accumulates_in_double(s.tokens.dtype),
                    name, " and its gradient must both be float64, or neither");
    if (tokens_wanted) out.tokens = tokens.mutable_data_ptr();
    if (value_wanted && !s.value_is_tokens) out.value = value.mutable_data_ptr();
  }
  static Tensor make(const MatrixView& like, ScalarType type, bool wanted) {
    return empty<3>({wanted ? like.batch : 0, like.rows, like.columns}, type);
  }
  Tensor tokens, value;
  cpu::BidirectionalGradients out;
};

FourTensors bidirectional_fusion_backward(
    const Tensor& grad_from_item, const Tensor& grad_from_user, const Tensor& from_item,
    const Tensor& from_user, const Tensor& user_log_sum, const Tensor& item_log_sum,
    const Tensor& user, const Tensor& item, const OptionalTensor& user_value,
    const OptionalTensor& item_value, const OptionalTensor& user_mask,
    const OptionalTensor& item_mask, const std::optional<double>& scale, bool user_wanted,
    bool item_wanted, bool user_value_wanted, bool item_value_wanted) {
  cpu::BidirectionalFusionBackwardArgs args;
  args.forward = arguments(user, item, user_value, item_value, user_mask, item_mask, scale);
  auto &u = args.forward.user, &i = args.forward.item;
  const Saved user_saved(u, i.value.columns, from_item, user_log_sum, "user");
  const Saved item_saved(i, u.value.columns, from_user, item_log_sum, "item");
  Gradients to_user(u, grad_from_item, user.scalar_type(), user_wanted, user_value_wanted, "user");
  Gradients to_item(i, grad_from_user, item.scalar_type(), item_wanted, item_value_wanted, "item");
  args.user = to_user.out;
  args.item = to_item.out;
  cpu::kernels().bidirectional_fusion_backward(args, TorchExecutor());
  return {to_user.tokens, to_item.tokens, to_user.value, to_item.value};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusionops, CPU, m) {
  FUSIONOPS_IMPL(m, bidirectional_fusion);
  FUSIONOPS_IMPL(m, bidirectional_fusion_backward);
}

}  // namespace fusionops::torch_face
