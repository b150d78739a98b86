// From stable-ABI tensors to the kernels' views, and fresh results.
//
// Users get their errors from the checks in fusionops/ops; the checks here keep a direct call of
// torch.ops.fusionops from reading memory that is not the tensor's.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "core/huge_pages.h"
#include "core/ragged.h"
#include "core/tensor_view.h"

namespace fusionops::torch_face {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline DType dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Double:
      return DType::float64;
    case ScalarType::Float:
      return DType::float32;
    case ScalarType::BFloat16:
      return DType::bfloat16;
    case ScalarType::Half:
      return DType::float16;
    default:
      STD_TORCH_CHECK(false, "expected a float64, float32, bfloat16 or float16 tensor");
  }
}

inline ScalarType accumulator_of(DType dtype) {
  return accumulates_in_double(dtype) ? ScalarType::Double : ScalarType::Float;
}

// The CUDA face is built a second time for the emulator (tests/emulator), with CPU tensors.
inline void check_device(const Tensor& t, const char* name) {
#if defined(FUSIONOPS_CUDA_FACE) && !defined(FUSIONOPS_EMULATED)
  STD_TORCH_CHECK(t.is_cuda(), name, " must be a CUDA tensor");
#else
  STD_TORCH_CHECK(t.is_cpu(), name, " must be a CPU tensor");
#endif
}

// A [B, N, D] tensor, or [N, D] as a batch of one.
inline MatrixView matrix(const Tensor& t, int64_t dims, const char* name) {
  check_device(t, name);
  STD_TORCH_CHECK(t.dim() == dims, name, " must have ", dims, " dimensions, got ", t.dim());
  MatrixView view;
  view.data = t.const_data_ptr();
  view.dtype = dtype_of(t.scalar_type());
  view.batch = dims == 3 ? t.size(0) : 1;
  view.batch_stride = dims == 3 ? t.stride(0) : 0;
  view.rows = t.size(dims - 2);
  view.columns = t.size(dims - 1);
  view.row_stride = t.stride(dims - 2);
  view.column_stride = t.stride(dims - 1);
  return view;
}

inline void check_pair(const MatrixView& a, const MatrixView& b, const char* names) {
  STD_TORCH_CHECK(a.batch == b.batch, names, " must have the same batch size, got ", a.batch,
                  " and ", b.batch);
  STD_TORCH_CHECK(accumulates_in_double(a.dtype) == accumulates_in_double(b.dtype), names,
                  " must both be float64, or neither");
}

// A vector of `size` scales in the accumulation type; the tensor returned keeps it alive.
inline OptionalTensor scale(const OptionalTensor& t, int64_t size, DType dtype, const char* name) {
  if (!t.has_value()) return std::nullopt;
  check_device(*t, name);
  STD_TORCH_CHECK(t->numel() == size, name, " must have ", size, " elements, got ", t->numel());
  STD_TORCH_CHECK(t->scalar_type() == accumulator_of(dtype), name,
                  " must have the accumulation dtype (float64 for float64, else float32)");
  return torch::stable::contiguous(*t);
}

inline const void* data(const OptionalTensor& t) {
  return t.has_value() ? t->const_data_ptr() : nullptr;
}

inline OptionalTensor integers(const OptionalTensor& t, const char* name) {
  if (!t.has_value()) return std::nullopt;
  check_device(*t, name);
  STD_TORCH_CHECK(t->scalar_type() == ScalarType::Long && t->dim() == 1, name,
                  " must be a 1-d int64 tensor");
  return torch::stable::contiguous(*t);
}

inline RaggedView ragged(const OptionalTensor& offsets, const OptionalTensor& indices, int64_t rows,
                         const char* name) {
  STD_TORCH_CHECK(offsets.has_value() == indices.has_value(), name,
                  " needs both offsets and indices");
  if (!offsets.has_value()) return {};
  STD_TORCH_CHECK(offsets->numel() == rows + 1, name, " must have ", rows + 1, " offsets, got ",
                  offsets->numel());
  return {static_cast<const int64_t*>(offsets->const_data_ptr()),
          static_cast<const int64_t*>(indices->const_data_ptr()), rows, indices->numel()};
}

// A bool mask [columns] or [rows, columns].
inline MaskView mask(const OptionalTensor& t, int64_t rows, int64_t columns, const char* name) {
  if (!t.has_value()) return {};
  check_device(*t, name);
  STD_TORCH_CHECK(t->scalar_type() == ScalarType::Bool, name, " must be a bool tensor");
  STD_TORCH_CHECK(
      (t->dim() == 1 || (t->dim() == 2 && t->size(0) == rows)) && t->size(t->dim() - 1) == columns,
      name, " must have the shape [", columns, "] or [", rows, ", ", columns, "]");
  return {static_cast<const uint8_t*>(t->const_data_ptr()), t->dim() == 2 ? t->stride(0) : 0,
          t->stride(t->dim() - 1)};
}

// What scores are multiplied by; by default 1 / sqrt(width). Not made in Python, where a compiled
// call would guard on the number.
inline double score_scale(const std::optional<double>& scale, int64_t width) {
  return scale.value_or(1 / std::sqrt(static_cast<double>(std::max<int64_t>(width, 1))));
}

template <size_t N>
Tensor empty(const std::array<int64_t, N>& sizes, ScalarType type) {
  Tensor t = torch::stable::empty(sizes, type);
  advise_huge_pages(t.mutable_data_ptr(), static_cast<size_t>(t.numel()) * t.element_size());
  return t;
}

}  // namespace fusionops::torch_face
