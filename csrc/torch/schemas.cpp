// The namespaces of the operators: each holds one implementation for each device.
#include "torch/schemas.h"

#include <torch/csrc/stable/library.h>

// CPU: the C++ kernels. CUDA: the CUDA C++ kernels, in a library of their own.
STABLE_TORCH_LIBRARY(fusionops, m) { fusionops::torch_face::define_operators(m); }

// The Triton kernels. Operators of their own, since the dispatcher has one slot a device and both
// kinds serve a GPU; fusionops/ops/_library.py chooses. fusionops/triton registers them.
STABLE_TORCH_LIBRARY(fusionops_triton, m) { fusionops::torch_face::define_operators(m); }
