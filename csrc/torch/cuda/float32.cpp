#include "torch/cuda/float32.h"

namespace fusionops::torch_face {
namespace {

// A thread's own: one that changes the setting does not change the calls of others on their way.
thread_local bool allowed_here = false;

}  // namespace

bool tf32_allowed() { return allowed_here; }

}  // namespace fusionops::torch_face

void fusionops_cuda_allow_tf32(int allowed) { fusionops::torch_face::allowed_here = allowed != 0; }
