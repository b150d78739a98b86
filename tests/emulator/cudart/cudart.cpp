// The part of libcudart that nvcc's host code and the launchers use; linked into every library of
// kernels, so that two of them with kernels of one name do not meet.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "emulator/ptx.h"

#pragma GCC visibility push(hidden)

namespace {

struct Configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};

std::map<std::string, const emulator::Kernel*>& kernels() {
  static auto& found = *new std::map<std::string, const emulator::Kernel*>;
  return found;
}

// Host code names a kernel by the address of its stub.
std::map<const void*, std::string>& stubs() {
  static auto& found = *new std::map<const void*, std::string>;
  return found;
}

std::vector<Configuration> configurations;
cudaError_t pending = cudaSuccess;

const emulator::Kernel* kernel_of(const void* stub) {
  const auto name = stubs().find(stub);
  if (name == stubs().end()) return nullptr;
  const auto kernel = kernels().find(name->second);
  return kernel == kernels().end() ? nullptr : kernel->second;
}

int start(const emulator::Kernel* kernel, dim3 grid, dim3 block, size_t dynamic, void** arguments) {
  size_t bytes = kernel->static_shared;
  if (dynamic > 0) {
    const size_t unit = emulator::kDynamicAlignment;
    bytes = (bytes + unit - 1) / unit * unit + dynamic;
  }
  return emulator::launch({kernel, grid, block, bytes, reinterpret_cast<char**>(arguments)});
}

// Those of an A100; -1 for what nobody here has asked for.
int attribute(cudaDeviceAttr which) {
  switch (which) {
    case cudaDevAttrMaxGridDimX:
      return 0x7fffffff;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      return 65535;
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      return 1024;
    case cudaDevAttrMaxBlockDimZ:
      return 64;
    case cudaDevAttrComputeCapabilityMajor:
      return 8;
    case cudaDevAttrComputeCapabilityMinor:
      return 0;
    case cudaDevAttrMultiProcessorCount:
      return 108;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return 48 << 10;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return 163 << 10;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return 164 << 10;
    case cudaDevAttrMaxThreadsPerBlock:
      return 1024;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return 2048;
    case cudaDevAttrWarpSize:
      return 32;
    default:
      return -1;
  }
}

// The dynamic shared memory that a kernel may have: more than 48 KiB must be asked for.
std::map<const void*, size_t>& limits() {
  static auto& found = *new std::map<const void*, size_t>;
  return found;
}

bool may_have(const void* stub, size_t shared) {
  const auto limit = limits().find(stub);
  const size_t usual = attribute(cudaDevAttrMaxSharedMemoryPerBlock);
  return shared <= (limit == limits().end() ? usual : limit->second);
}

cudaError_t start_stub(const void* stub, dim3 grid, dim3 block, void** arguments, size_t shared) {
  const emulator::Kernel* kernel = kernel_of(stub);
  if (kernel == nullptr) {
    emulator::set_error("a kernel that is not in this library");
    pending = cudaErrorInvalidDeviceFunction;
  } else if (!may_have(stub, shared)) {
    emulator::set_error("%s: %zu bytes of dynamic shared memory, more than it asked for",
                        kernel->name, shared);
    pending = cudaErrorInvalidValue;
  } else {
    pending = static_cast<cudaError_t>(start(kernel, grid, block, shared, arguments));
  }
  return pending;
}

cudaError_t copy(void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t fill(void* to, int value, size_t bytes) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

}  // namespace

namespace emulator {

Registration::Registration(const Kernel* found, int count) {
  for (int i = 0; i < count; ++i) kernels()[found[i].name] = &found[i];
}

}  // namespace emulator

#pragma GCC visibility push(default)
// From Python, without host code: what Triton's launcher does.
extern "C" int emulator_start(const char* name, const unsigned* grid, const unsigned* block,
                              size_t shared, void** arguments) {
  const auto kernel = kernels().find(name);
  if (kernel == kernels().end()) {
    emulator::set_error("no kernel %s in this library", name);
    return cudaErrorInvalidDeviceFunction;
  }
  return start(kernel->second, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared,
               arguments);
}
#pragma GCC visibility pop

extern "C" {

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  configurations.push_back({grid, block, shared, static_cast<cudaStream_t>(stream)});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const Configuration last = configurations.back();
  configurations.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared = last.shared;
  *static_cast<cudaStream_t*>(stream) = last.stream;
  return cudaSuccess;
}

void** __cudaRegisterFatBinary(void*) {
  static void* handle[1];
  return handle;
}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

void __cudaRegisterFunction(void**, const char* stub, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  stubs()[stub] = name;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stub) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(stub));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               size_t shared, cudaStream_t) {
  return start_stub(kernel, grid, block, arguments, shared);
}

cudaError_t cudaLaunchKernel(const void* stub, dim3 grid, dim3 block, void** arguments,
                             size_t shared, cudaStream_t) {
  return start_stub(stub, grid, block, arguments, shared);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* stub, void** arguments) {
  return start_stub(stub, c->gridDim, c->blockDim, arguments, c->dynamicSmemBytes);
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (posix_memalign(memory, 256, bytes != 0 ? bytes : 1) != 0) return cudaErrorMemoryAllocation;
  return fill(*memory, 0xff, bytes);
}

cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return copy(to, from, bytes);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  return copy(to, from, bytes);
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) { return fill(to, value, bytes); }
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return fill(to, value, bytes);
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaPeekAtLastError() { return pending; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = pending;
  pending = cudaSuccess;
  return error;
}

const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess ? "cudaSuccess" : "emulated CUDA error";
}

// What a thread did wrong takes the place of "unspecified launch failure".
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : emulator::last_error();
}

cudaError_t cudaFuncSetAttribute(const void* stub, cudaFuncAttribute which, int value) {
  if (which != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value <= attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) {
    limits()[stub] = value;
    return cudaSuccess;
  }
  emulator::set_error("cudaFuncSetAttribute: %d bytes of shared memory", value);
  return cudaErrorInvalidValue;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* stub) {
  std::memset(attributes, 0, sizeof *attributes);
  const emulator::Kernel* kernel = kernel_of(stub);
  if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  attributes->ptxVersion = attributes->binaryVersion = 80;
  attributes->sharedSizeBytes = kernel->static_shared;
  attributes->maxThreadsPerBlock = kernel->max_threads;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = attribute(which);
  return *value < 0 ? cudaErrorInvalidValue : cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int,
                                                                   size_t, unsigned) {
  *blocks = 1;
  return cudaSuccess;
}

}  // extern "C"
