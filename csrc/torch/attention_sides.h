// What both passes of attention_fusion take, on every device.
#pragma once

#include <optional>

#include "torch/unpack.h"

namespace fusionops::torch_face {

// Args has the members of cpu::AttentionFusionArgs; `value` is `key` where there is none.
template <class Args>
struct AttentionSides {
  AttentionSides(const Tensor& query, const Tensor& key, const OptionalTensor& value,
                 const OptionalTensor& mask_tensor, const OptionalTensor& query_mask,
                 int64_t num_heads, const std::optional<double>& scale, double dropout_p,
                 const OptionalTensor& seed) {
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
  }

  int64_t batch() const { return args.key.batch; }
  ScalarType accumulator() const { return accumulator_of(args.key.dtype); }
  int64_t weights() const { return batch() * args.num_heads * args.query.rows * args.key.rows; }

  // The incoming gradient, or the result, as checked against the sides.
  MatrixView result(const Tensor& t, const char* name) const {
    const MatrixView view = matrix(t, 3, name);
    STD_TORCH_CHECK(view.dtype == args.key.dtype && view.batch == batch() &&
                        view.rows == args.query.rows && view.columns == args.value.columns,
                    name, " must have the shape and dtype of the result");
    return view;
  }

  Args args;
};

// Where the seed is, on the device of the other tensors.
inline const int64_t* seed_data(const Tensor& seed) {
  check_device(seed, "seed");
  STD_TORCH_CHECK(seed.scalar_type() == ScalarType::Long && seed.numel() == 1,
                  "seed must be one int64 number");
  return static_cast<const int64_t*>(seed.const_data_ptr());
}

}  // namespace fusionops::torch_face
