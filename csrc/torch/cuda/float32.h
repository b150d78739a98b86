// Whether products of float32 matrices may round their operands to tf32.
//
// That is PyTorch's setting (torch.backends.cuda.matmul), which the stable ABI does not show and a
// schema would have to carry: Python hands it over before a call, by fusionops_cuda_allow_tf32.
#pragma once

namespace fusionops::torch_face {

bool tf32_allowed();

}  // namespace fusionops::torch_face

extern "C" __attribute__((visibility("default"))) void fusionops_cuda_allow_tf32(int allowed);
