// Kernels that are right: what GPU code is made of, each compared with NumPy.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace {

constexpr int kTile = 16;

__global__ void __launch_bounds__(kTile* kTile)
    gemm(const float* a, const float* b, float* c, int m, int n, int k) {
  __shared__ float as[kTile][kTile + 1], bs[kTile][kTile + 1];
  const int tx = threadIdx.x, ty = threadIdx.y;
  const int row = blockIdx.y * kTile + ty, column = blockIdx.x * kTile + tx;
  float sum = 0;
  for (int k0 = 0; k0 < k; k0 += kTile) {
    as[ty][tx] = row < m && k0 + tx < k ? a[row * k + k0 + tx] : 0;
    bs[ty][tx] = column < n && k0 + ty < k ? b[(k0 + ty) * n + column] : 0;
    __syncthreads();
    for (int i = 0; i < kTile; ++i) sum += as[ty][i] * bs[i][tx];
    __syncthreads();
  }
  if (row < m && column < n) c[row * n + column] = sum;
}

__device__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

__device__ void copy16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}

__device__ void load_fragment(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ void load_transposed(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

#define MMA(name, shape_and_types)                                                      \
  __device__ void name(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
    asm volatile("mma.sync.aligned." shape_and_types                                    \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"     \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));   \
  }
MMA(mma_of, "m16n8k16.row.col.f32.bf16.bf16.f32")
MMA(mma_of_half, "m16n8k16.row.col.f32.f16.f16.f32")
MMA(mma_of_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")

__device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                         __nv_bfloat16) {
  mma_of(d, a, b);
}
__device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half) {
  mma_of_half(d, a, b);
}

// C [16, 8] = A [16, k] B [k, 8] by one warp, k a multiple of 32: two stages of cp.async.
template <class H>
__global__ void tensor_core(const H* a, const H* b, float* c, int k) {
  constexpr int kDepth = 32;
  __shared__ alignas(16) H as[2][16][kDepth + 8], bs[2][kDepth][8];
  const int lane = threadIdx.x;
  const auto load = [&](int stage, int k0) {
    for (int i = lane; i < 16 * kDepth / 8; i += 32) {
      const int row = i / (kDepth / 8), column = i % (kDepth / 8) * 8;
      copy16(&as[stage][row][column], a + row * k + k0 + column);
    }
    copy16(&bs[stage][lane][0], b + (k0 + lane) * 8);
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  float sums[4] = {};
  load(0, 0);
  for (int k0 = 0, stage = 0; k0 < k; k0 += kDepth, stage ^= 1) {
    if (k0 + kDepth < k) {
      load(stage ^ 1, k0 + kDepth);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
    for (int i = 0; i < kDepth; i += 16) {
      uint32_t fa[4], fb[2];
      load_fragment(fa, &as[stage][lane % 16][i + lane / 16 * 8]);
      load_transposed(fb, &bs[stage][i + lane % 16][0]);
      multiply(sums, fa, fb, H());
    }
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

// C [16, 8] = A [16, 8] B [8, 8], fragments loaded by hand.
__global__ void tf32_tile(const float* a, const float* b, float* c) {
  const int group = threadIdx.x / 4, quad = threadIdx.x % 4;
  const auto bits = [](float x) {
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
  };
  const uint32_t fa[4] = {bits(a[group * 8 + quad]), bits(a[(group + 8) * 8 + quad]),
                          bits(a[group * 8 + quad + 4]), bits(a[(group + 8) * 8 + quad + 4])};
  const uint32_t fb[2] = {bits(b[quad * 8 + group]), bits(b[(quad + 4) * 8 + group])};
  float sums[4] = {};
  mma_of_tf32(sums, fa, fb);
  for (int i = 0; i < 4; ++i) c[(group + i / 2 * 8) * 8 + quad * 2 + i % 2] = sums[i];
}

// Row sums: vector loads, shuffles, a second stage in shared memory; any number of warps.
__global__ void row_sums(const float4* x, float* y, int vectors) {
  __shared__ float parts[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  float sum = 0;
  for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
    const float4 v = x[blockIdx.x * vectors + i];
    sum += v.x + v.y + v.z + v.w;
  }
  for (int o = 16; o > 0; o /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  if (lane == 0) parts[warp] = sum;
  __syncthreads();
  if (warp != 0) return;
  sum = lane < warps ? parts[lane] : 0;
  for (int o = 16; o > 0; o /= 2) sum += __shfl_down_sync(0xffffffffu, sum, o);
  if (lane == 0) y[blockIdx.x] = sum;
}

__global__ void histogram(const int* x, int n, int* counts) {
  __shared__ int mine[8];
  if (threadIdx.x < 8) mine[threadIdx.x] = 0;
  __syncthreads();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(&mine[x[i] & 7], 1);
  __syncthreads();
  if (threadIdx.x < 8) atomicAdd(&counts[threadIdx.x], mine[threadIdx.x]);
}

// What lanes say to each other: votes, matches, sums, the largest.
__global__ void warp_words(const int* x, unsigned* y) {
  const int t = threadIdx.x, v = x[t];
  y[t] = __ballot_sync(0xffffffffu, v & 1);
  y[32 + t] = __match_any_sync(0xffffffffu, v & 3);
  y[64 + t] = __reduce_add_sync(0xffffffffu, v);
  y[96 + t] = __reduce_max_sync(0xffffffffu, v);
  y[128 + t] = __syncthreads_count(v & 1);
  y[160 + t] = __any_sync(0xffffffffu, v == x[3]) + 2 * __all_sync(0xffffffffu, v >= 0);
  y[192 + t] = __shfl_up_sync(0xffffffffu, v, 3, 8);
}

__constant__ float table[4] = {1, 2, 4, 8};

__device__ __noinline__ float power(float x, int n) { return n == 0 ? 1 : x * power(x, n - 1); }

__global__ void math(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float v = x[i], a = fabsf(v);
  float local[4];
  for (int j = 0; j < 4; ++j) local[j] = v * table[j];
  const float results[] = {expf(v),      logf(a + 1), tanhf(v),        rsqrtf(a + 0.5f),
                           sinf(v * 10), erff(v),     powf(a, 1.7f),   rintf(v),
                           v / (v + 30), log1pf(a),   power(v, i % 4), local[i % 4],
                           exp2f(v),     cosf(v),     __expf(v),       sqrtf(a)};
  for (int j = 0; j < 16; ++j) y[j * n + i] = results[j];
}

}  // namespace

extern "C" int run_gemm(const float* a, const float* b, float* c, int64_t m, int64_t n, int64_t k) {
  const dim3 grid((n + kTile - 1) / kTile, (m + kTile - 1) / kTile);
  gemm<<<grid, dim3(kTile, kTile)>>>(a, b, c, m, n, k);
  return cudaGetLastError();
}

extern "C" int run_tensor_core(const void* a, const void* b, float* c, int64_t k, int64_t half) {
  if (half != 0) {
    tensor_core<<<1, 32>>>(static_cast<const __half*>(a), static_cast<const __half*>(b), c, k);
  } else {
    tensor_core<<<1, 32>>>(static_cast<const __nv_bfloat16*>(a),
                           static_cast<const __nv_bfloat16*>(b), c, k);
  }
  return cudaGetLastError();
}

extern "C" int run_tf32_tile(const float* a, const float* b, float* c) {
  tf32_tile<<<1, 32>>>(a, b, c);
  return cudaGetLastError();
}

extern "C" int run_row_sums(const float* x, float* y, int64_t rows, int64_t columns,
                            int64_t threads) {
  row_sums<<<rows, threads>>>(reinterpret_cast<const float4*>(x), y, columns / 4);
  return cudaGetLastError();
}

extern "C" int run_histogram(const int* x, int* counts, int64_t n) {
  histogram<<<(n + 127) / 128, 128>>>(x, n, counts);
  return cudaGetLastError();
}

extern "C" int run_warp_words(const int* x, unsigned* y) {
  warp_words<<<1, 32>>>(x, y);
  return cudaGetLastError();
}

extern "C" int run_math(const float* x, float* y, int64_t n) {
  math<<<(n + 63) / 64, 64>>>(x, y, n);
  return cudaGetLastError();
}
