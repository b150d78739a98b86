// Kernels with one mistake each, and beside it what is right. The line of the mistake is marked:
// the tests look for it in the message.
#include <cassert>
#include <cstdint>

namespace {

constexpr int kThreads = 64;

__global__ void barrier_before_use(const float* x, float* y, bool barrier) {
  __shared__ float kept[kThreads];
  const int t = threadIdx.x;
  kept[t] = x[t];
  if (barrier) __syncthreads();
  y[t] = kept[kThreads - 1 - t];  // missing barrier before
}

__global__ void barrier_after_use(const float* x, float* y, bool barrier) {
  __shared__ float kept[kThreads];
  const int t = threadIdx.x;
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    kept[t] = x[round * kThreads + t];  // missing barrier after
    __syncthreads();
    for (int i = 0; i < kThreads; ++i) sum += kept[(t + i) % kThreads];
    if (barrier) __syncthreads();
  }
  y[t] = sum;
}

__global__ void warp_exchange(const float* x, float* y, bool barrier) {
  __shared__ float kept[32];
  const int t = threadIdx.x;
  kept[t] = x[t];
  if (barrier) __syncwarp();
  y[t] = kept[31 - t];  // missing syncwarp
}

__global__ void async_copy(const float* x, float* y, bool wait) {
  __shared__ alignas(16) float kept[4 * kThreads];
  const int t = threadIdx.x;
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(kept + 4 * t));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + 4 * t) : "memory");
  asm volatile("cp.async.commit_group;" ::: "memory");
  if (wait) asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  for (int i = 0; i < 4; ++i) y[4 * t + i] = kept[4 * (kThreads - 1 - t) + i];  // missing wait
}

__global__ void shared_index(float* y, int offset) {
  __shared__ float kept[kThreads];
  const int t = threadIdx.x;
  kept[t + offset] = t;  // shared index
  __syncthreads();
  y[t] = kept[t];
}

__global__ void global_index(const float* x, float* y, int offset) {
  const int t = threadIdx.x;
  y[t] = x[t + offset];  // global index
}

__global__ void vector_load(const float* x, float* y, int offset) {
  const int t = threadIdx.x;
  const float4 v = *reinterpret_cast<const float4*>(x + 4 * t + offset);  // vector load
  y[t] = v.x + v.y + v.z + v.w;
}

__global__ void half_shuffle(const float* x, float* y, unsigned mask) {
  const int t = threadIdx.x;
  float v = x[t];
  if (t < 16) v += __shfl_xor_sync(mask, v, 16);  // half shuffle
  y[t] = v;
}

__global__ void never_written(float* y, bool written) {
  __shared__ float kept[kThreads];
  const int t = threadIdx.x;
  if (written || t != 5) kept[t] = t;
  __syncthreads();
  y[t] = kept[t];  // never written
}

// The lower half waits for the upper one, which waits for the lower one elsewhere.
__global__ void split_barrier(float* y, bool split) {
  const int t = threadIdx.x;
  if (split && t < kThreads / 2) {
    asm volatile("bar.sync 1, 64;" ::: "memory");
  } else {
    __syncthreads();
  }
  y[t] = t;
}

__global__ void early_exit(float* y, bool exits) {
  const int t = threadIdx.x;
  if (exits && t == 7) return;
  const unsigned votes = __ballot_sync(0xffffffffu, t & 1);  // early exit
  y[t] = static_cast<float>(votes);
}

__global__ void two_collectives(float* y, bool split) {
  const int t = threadIdx.x;
  unsigned result;
  if (split && t < 16) {
    result = __ballot_sync(0xffffffffu, t & 1);
  } else {
    result = __shfl_sync(0xffffffffu, t, 0);
  }
  y[t] = static_cast<float>(result);
}

__global__ void checked(float* y, int limit) {
  assert(threadIdx.x < limit);
  y[threadIdx.x] = 1;
}

__global__ void dynamic_memory(float* y) {
  extern __shared__ float kept[];
  kept[threadIdx.x] = threadIdx.x;
  y[threadIdx.x] = kept[threadIdx.x];
}

__global__ void partial_result(float* y, int written) {
  if (threadIdx.x < written) y[threadIdx.x] = 1;
}

}  // namespace

#define LAUNCHER(name, threads)                                           \
  extern "C" int run_##name(const float* x, float* y, int64_t argument) { \
    name<<<1, threads>>>(x, y, argument);                                 \
    return cudaGetLastError();                                            \
  }
#define WRITER(name, threads)                             \
  extern "C" int run_##name(float* y, int64_t argument) { \
    name<<<1, threads>>>(y, argument);                    \
    return cudaGetLastError();                            \
  }

LAUNCHER(barrier_before_use, kThreads)
LAUNCHER(barrier_after_use, kThreads)
LAUNCHER(warp_exchange, 32)
LAUNCHER(async_copy, kThreads)
LAUNCHER(global_index, kThreads)
LAUNCHER(vector_load, 8)
LAUNCHER(half_shuffle, 32)
WRITER(shared_index, kThreads)
WRITER(never_written, kThreads)
WRITER(split_barrier, kThreads)
WRITER(early_exit, 32)
WRITER(two_collectives, 32)
WRITER(checked, kThreads)
WRITER(partial_result, kThreads)

extern "C" int run_dynamic_memory(float* y, int64_t threads, int64_t bytes, int64_t asks) {
  const auto kernel = reinterpret_cast<const void*>(dynamic_memory);
  if (asks != 0) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  }
  dynamic_memory<<<1, threads, bytes>>>(y);
  return cudaGetLastError();
}
