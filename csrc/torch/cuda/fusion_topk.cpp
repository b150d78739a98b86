// fusion_topk on CUDA tensors.
#include "cuda/fusion_topk.h"

#include <tuple>

#include "torch/box.h"
#include "torch/cuda/device.h"
#include "torch/cuda/sides.h"

namespace fusionops::torch_face {
namespace {

const float* floats(const OptionalTensor& t) { return static_cast<const float*>(data(t)); }

template <bool kAllowTf32>
std::tuple<Tensor, Tensor> fusion_topk(
    const Tensor& user, const Tensor& item, int64_t k, const OptionalTensor& user_scale,
    const OptionalTensor& item_scale, const OptionalTensor& item_bias,
    const OptionalTensor& exclude_offsets, const OptionalTensor& exclude_indices,
    const OptionalTensor& allowed, const OptionalTensor& candidate_offsets,
    const OptionalTensor& candidate_indices) {
  const DeviceScope scope(user);
  const Sides sides(user, item, 2);
  cuda::FusionTopkArgs args;
  args.user = sides.user;
  args.item = sides.item;
  STD_TORCH_CHECK(!accumulates_in_double(args.user.dtype), "float64 is not served on CUDA");
  STD_TORCH_CHECK(k >= 1 && k <= cuda::kLongestTopK, "k must be in [1, ", cuda::kLongestTopK,
                  "], got ", k);
  const int64_t users = args.user.rows, items = args.item.rows;
  const auto us = scale(user_scale, users, args.user.dtype, "user_scale");
  const auto is = scale(item_scale, items, args.user.dtype, "item_scale");
  const auto bias = scale(item_bias, items, args.user.dtype, "item_bias");
  const auto eo = integers(exclude_offsets, "exclude"), ei = integers(exclude_indices, "exclude");
  const auto co = integers(candidate_offsets, "candidates");
  const auto ci = integers(candidate_indices, "candidates");
  args.k = k;
  args.user_scale = floats(us);
  args.item_scale = floats(is);
  args.item_bias = floats(bias);
  args.exclude = ragged(eo, ei, users, "exclude");
  args.candidates = ragged(co, ci, users, "candidates");
  args.allowed = mask(allowed, users, items, "allowed");
  args.allow_tf32 = kAllowTf32;
  Tensor scores = empty_on<2>(user, {users, k}, ScalarType::Float);
  Tensor indices = empty_on<2>(user, {users, k}, ScalarType::Long);
  const Tensor scratch = empty_on<1>(user, {cuda::fusion_topk_scratch(args) / 8}, ScalarType::Long);
  args.scores = static_cast<float*>(scores.mutable_data_ptr());
  args.indices = static_cast<int64_t*>(indices.mutable_data_ptr());
  args.scratch = scratch.mutable_data_ptr();
  cuda::fusion_topk(args, scope.stream());
  return {scores, indices};
}

}  // namespace

FUSIONOPS_CUDA_LIBRARY_IMPL(m) {
  FUSIONOPS_IMPL_AS(m, "fusion_topk", fusion_topk<false>);
  FUSIONOPS_IMPL_AS(m, "fusion_topk_tf32", fusion_topk<true>);
}

}  // namespace fusionops::torch_face
