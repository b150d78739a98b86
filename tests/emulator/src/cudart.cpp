// The part of libcudart that nvcc's host code and the tests use; kernels run through ptx2cpp.py's functions.
#include "ptx_rt.h"
#include <map>
#include <string>
#pragma GCC visibility push(hidden)
static std::map<std::string, const emu::KernelInfo*>& kernels() { static std::map<std::string, const emu::KernelInfo*> m; return m; }
static std::map<const void*, std::string>& stubs() { static std::map<const void*, std::string> m; return m; }
emu::Registrar::Registrar(const KernelInfo* k, int n) { for (int i = 0; i < n; i++) kernels()[k[i].name] = &k[i]; }
struct Cfg { dim3 g, b; size_t s; cudaStream_t st; }; static std::vector<Cfg> cfg;
extern "C" __attribute__((visibility("default"))) int emu_launch(const char* name, const unsigned* g, const unsigned* b, size_t smem, void** args) {
  auto it = kernels().find(name); if (it == kernels().end()) { emu::last_error = std::string("no kernel ") + name; return 98; }
  const auto* k = it->second; unsigned n = b[0] * b[1] * b[2];
  if (!n || n > 1024u || n > (unsigned)k->maxthreads || !g[0] || !g[1] || !g[2] || g[1] > 65535 || g[2] > 65535) { emu::last_error = std::string(name) + ": invalid launch configuration"; return 9; }
  gridDim = dim3(g[0], g[1], g[2]); blockDim = dim3(b[0], b[1], b[2]); emu::static_smem = k->smem; size_t tot = smem ? rt_dyn_off() + smem : k->smem;
  if (k->smem + smem > 227 * 1024) { emu::last_error = std::string(name) + ": too much shared memory"; return 1; }
  emu::kernel_name = k->name;
  emu::on_shared_write = race_on || init_on ? rt_track_ptr : nullptr;
  char** P = (char**)args; E.body = [=] { try { k->fn(P, nullptr); } catch (emu_exit&) {} };
  for (unsigned z = 0; z < g[2]; z++) for (unsigned y = 0; y < g[1]; y++) for (unsigned x = 0; x < g[0]; x++) { blockIdx = make_uint3(x, y, z); emu::run_block(blockDim, tot); if (E.failed) { E.failed = false; races = 0; return 719; } }
  int r = races; races = 0; return r ? 719 : 0;
}
extern "C" {
unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t s, void* st) { cfg.push_back({g, b, s, (cudaStream_t)st}); return 0; }
cudaError_t __cudaPopCallConfiguration(dim3* g, dim3* b, size_t* s, void* st) { auto c = cfg.back(); cfg.pop_back(); *g = c.g; *b = c.b; *s = c.s; *(cudaStream_t*)st = c.st; return cudaSuccess; }
void** __cudaRegisterFatBinary(void*) { static void* h[1]; return h; }
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFatBinaryEnd(void**) {} void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) { stubs()[host] = name; }
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
cudaError_t __cudaGetKernel(cudaKernel_t* k, const void* f) { *k = (cudaKernel_t)f; return cudaSuccess; }
static cudaError_t last; static cudaError_t go(const void* f, dim3 g, dim3 b, void** a, size_t s) { auto it = stubs().find(f); if (it == stubs().end()) return last = cudaErrorInvalidDeviceFunction; unsigned G[3] = {g.x, g.y, g.z}, B[3] = {b.x, b.y, b.z}; return last = (cudaError_t)emu_launch(it->second.c_str(), G, B, s, a); }
cudaError_t cudaLaunchKernel(const void* f, dim3 g, dim3 b, void** a, size_t s, cudaStream_t) { return go(f, g, b, a, s); }
cudaError_t __cudaLaunchKernel(cudaKernel_t f, dim3 g, dim3 b, void** a, size_t s, cudaStream_t) { return go((const void*)f, g, b, a, s); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* f, void** a) { return go(f, c->gridDim, c->blockDim, a, c->dynamicSmemBytes); }
cudaError_t cudaMalloc(void** p, size_t n) { *p = nullptr; if (posix_memalign(p, 256, n ? n : 1)) return cudaErrorMemoryAllocation; memset(*p, 0xff, n); return cudaSuccess; }
cudaError_t cudaFree(void* p) { free(p); return cudaSuccess; }
cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind) { memcpy(d, s, n); return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind, cudaStream_t) { memcpy(d, s, n); return cudaSuccess; }
cudaError_t cudaMemset(void* d, int v, size_t n) { memset(d, v, n); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t) { memset(d, v, n); return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; } cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGetLastError() { auto e = last; last = cudaSuccess; return e; } cudaError_t cudaPeekAtLastError() { return last; }
const char* cudaGetErrorString(cudaError_t e) { return e == cudaErrorLaunchFailure ? emu::last_error.c_str() : e ? "emulated CUDA error" : "no error"; }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int v) { return v > 227 * 1024 ? cudaErrorInvalidValue : cudaSuccess; }
cudaError_t cudaGetDevice(int* d) { *d = 0; return cudaSuccess; } cudaError_t cudaSetDevice(int) { return cudaSuccess; } cudaError_t cudaGetDeviceCount(int* n) { *n = 1; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) { *v = a == cudaDevAttrMultiProcessorCount ? 4 : a == cudaDevAttrComputeCapabilityMajor ? 8 : a == cudaDevAttrComputeCapabilityMinor ? 0 : a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 166912 : a == cudaDevAttrMaxSharedMemoryPerMultiprocessor ? 167936 : a == cudaDevAttrMaxSharedMemoryPerBlock ? 49152 : 1024; return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void*, int, size_t, unsigned) { *n = 1; return cudaSuccess; }
}
extern "C" cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void* f) { memset(a, 0, sizeof *a); a->ptxVersion = a->binaryVersion = 80; a->maxThreadsPerBlock = 1024; a->numRegs = 32; auto it = stubs().find(f); if (it != stubs().end()) { auto k = kernels().find(it->second); if (k != kernels().end()) { a->sharedSizeBytes = k->second->smem; a->maxThreadsPerBlock = k->second->maxthreads; } } return cudaSuccess; }
extern "C" cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* s) { *s = cudaStreamCaptureStatusNone; return cudaSuccess; }
extern "C" cudaError_t cudaEventCreate(cudaEvent_t* e) { *e = nullptr; return cudaSuccess; }
extern "C" cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }


