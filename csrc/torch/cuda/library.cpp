// The namespace of the emulated library; that of the real one is in torch/schemas.cpp.
#ifdef FUSIONOPS_EMULATED

#include <torch/csrc/stable/library.h>

#include "torch/schemas.h"

STABLE_TORCH_LIBRARY(fusionops_emulated, m) { fusionops::torch_face::define_operators(m); }

#endif
