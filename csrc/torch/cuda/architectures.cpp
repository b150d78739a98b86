// Which GPUs this library was built for, for fusionops/cuda_library.py to ask; CMake says.
#ifdef FUSIONOPS_CUDA_ARCHITECTURES

extern "C" [[gnu::visibility("default")]] const char* fusionops_cuda_architectures() {
  return FUSIONOPS_CUDA_ARCHITECTURES;
}

#endif
