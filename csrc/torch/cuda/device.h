// What every operator of the CUDA face needs of the device: its stream, results on it, and where
// implementations are registered.
//
// With FUSIONOPS_EMULATED the same sources make the library that tests/emulator runs: operators of
// their own over CPU tensors, on no stream.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <array>

#include "torch/unpack.h"

#ifdef FUSIONOPS_EMULATED
#define FUSIONOPS_CUDA_LIBRARY_IMPL(library) \
  STABLE_TORCH_LIBRARY_IMPL(fusionops_emulated, CPU, library)
#else
#define FUSIONOPS_CUDA_LIBRARY_IMPL(library) STABLE_TORCH_LIBRARY_IMPL(fusionops, CUDA, library)
#endif

namespace fusionops::torch_face {

// While it lives, the device of `t` is the current one; kernels go to its current stream.
class DeviceScope {
 public:
#ifdef FUSIONOPS_EMULATED
  explicit DeviceScope(const Tensor&) {}
  cudaStream_t stream() const { return nullptr; }
#else
  explicit DeviceScope(const Tensor& t)
      : guard_(t.get_device_index()),
        stream_(torch::stable::accelerator::getCurrentStream(t.get_device_index())) {}
  cudaStream_t stream() const { return static_cast<cudaStream_t>(stream_.nativeHandle()); }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  torch::stable::accelerator::Stream stream_;
#endif
};

// A fresh result or scratch on the device of `t`, contiguous and not initialised.
template <size_t N>
Tensor empty_on(const Tensor& t, const std::array<int64_t, N>& sizes, ScalarType type) {
  return torch::stable::new_empty(t, sizes, type);
}

}  // namespace fusionops::torch_face
