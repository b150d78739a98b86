// fusion_matrix on CUDA tensors.
#include "cuda/fusion_matrix.h"

#include "torch/box.h"
#include "torch/cuda/device.h"
#include "torch/cuda/sides.h"

namespace fusionops::torch_face {
namespace {

template <bool kAllowTf32>
Tensor fusion_matrix(const Tensor& user, const Tensor& item, const OptionalTensor& user_scale,
                     const OptionalTensor& item_scale, const std::optional<ScalarType>& dtype) {
  const DeviceScope scope(user);
  const Sides sides(user, item, 3);
  cuda::FusionMatrixArgs args;
  args.user = sides.user;
  args.item = sides.item;
  args.allow_tf32 = kAllowTf32;
  const int64_t batch = args.user.batch, users = args.user.rows, items = args.item.rows;
  const auto us = scale(user_scale, batch * users, args.user.dtype, "user_scale");
  const auto is = scale(item_scale, batch * items, args.user.dtype, "item_scale");
  args.user_scale = data(us);
  args.item_scale = data(is);
  const ScalarType type = dtype.value_or(item.scalar_type());
  STD_TORCH_CHECK(accumulates_in_double(dtype_of(type)) == accumulates_in_double(args.user.dtype),
                  "the result must be float64 where the sides are, and only there");
  Tensor out = empty_on<3>(user, {batch, users, items}, type);
  args.out = {out.mutable_data_ptr(), dtype_of(type), batch, users, items};
  cuda::fusion_matrix(args, scope.stream());
  return out;
}

}  // namespace

FUSIONOPS_CUDA_LIBRARY_IMPL(m) {
  FUSIONOPS_IMPL_AS(m, "fusion_matrix", fusion_matrix<false>);
  FUSIONOPS_IMPL_AS(m, "fusion_matrix_tf32", fusion_matrix<true>);
}

}  // namespace fusionops::torch_face
