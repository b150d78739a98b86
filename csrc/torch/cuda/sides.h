// Users and items as the score kernels take them: of one dtype.
#pragma once

#include "torch/cuda/device.h"

namespace fusionops::torch_face {

// Beside a side of float32, as gradients are, the other is widened: a kernel for every pair of
// dtypes would be many. Keeps what the views point at alive.
struct Sides {
  Sides(const Tensor& user, const Tensor& item, int64_t dims)
      : user_tensor(of_type(user, common(user, item))),
        item_tensor(of_type(item, common(user, item))) {
    this->user = matrix(user_tensor, dims, "user");
    this->item = matrix(item_tensor, dims, "item");
    check_pair(this->user, this->item, "user and item");
    STD_TORCH_CHECK(this->user.columns == this->item.columns,
                    "user and item must have the same width, got ", this->user.columns, " and ",
                    this->item.columns);
    STD_TORCH_CHECK(this->user.columns < (int64_t{1} << 31), "vectors are too wide");
  }

  MatrixView user, item;

 private:
  static ScalarType common(const Tensor& user, const Tensor& item) {
    if (user.scalar_type() == item.scalar_type()) return user.scalar_type();
    STD_TORCH_CHECK(
        user.scalar_type() != ScalarType::Double && item.scalar_type() != ScalarType::Double,
        "user and item must both be float64, or neither");
    return ScalarType::Float;
  }

  static Tensor of_type(const Tensor& t, ScalarType type) {
    return t.scalar_type() == type ? t : torch::stable::to(t, type);
  }

  Tensor user_tensor, item_tensor;
};

}  // namespace fusionops::torch_face
