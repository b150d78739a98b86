// The instructions that C++ has no words for: the only file with inline PTX.
//
// `mma.sync` runs on every architecture from sm_80 on. On sm_90 it reaches about two thirds of the
// tensor cores' rate: `wgmma`, which reads its operands from shared memory, would gain the rest for
// large tiles, at the price of a second kernel for one architecture.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace fusionops::cuda {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies the first `bytes` of kBytes (4, 8 or 16) to shared memory and fills the rest with zeros,
// without waiting. Both addresses are multiples of kBytes; with 0 bytes nothing is read.
template <int kBytes>
__device__ void copy_async(void* shared, const void* global, int bytes) {
  if constexpr (kBytes == 16) {  // past the first-level cache: a row is staged once a block
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)),
                 "l"(global), "n"(kBytes), "r"(bytes)
                 : "memory");
  }
}

// Stores of a whole vector. Next to a path that stores the same numbers one by one, nvcc would make
// one path of the two, and of the vector its numbers.
__device__ inline void store_vector(void* global, uint4 value) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(global), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}

__device__ inline void store_vector(void* global, uint2 value) {
  asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(global), "r"(value.x), "r"(value.y)
               : "memory");
}

// Closes a group of copies.
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending groups of this thread's copies are on their way.
template <int kPending>
__device__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 16-byte matrices; lanes 8 m to 8 m + 7 hand over the addresses of the rows of matrix m.
__device__ inline void load_matrices(std::uint32_t (&part)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(part[0]), "=r"(part[1]), "=r"(part[2]), "=r"(part[3])
               : "r"(shared_address(row))
               : "memory");
}

// sum (16 x 8) += left (16 rows of 32 bytes) times right (8 rows of 32 bytes), transposed.
// `Element` says what the bytes are.
template <class Element>
__device__ void multiply_add(float (&sum)[4], const std::uint32_t (&left)[4], std::uint32_t right0,
                             std::uint32_t right1);

template <>
__device__ inline void multiply_add<__nv_bfloat16>(float (&sum)[4], const std::uint32_t (&left)[4],
                                                   std::uint32_t right0, std::uint32_t right1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

template <>
__device__ inline void multiply_add<__half>(float (&sum)[4], const std::uint32_t (&left)[4],
                                            std::uint32_t right0, std::uint32_t right1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

// float operands that were rounded by to_tf32.
template <>
__device__ inline void multiply_add<float>(float (&sum)[4], const std::uint32_t (&left)[4],
                                           std::uint32_t right0, std::uint32_t right1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

// The bits of a float, rounded to the 10 bits of tf32's mantissa; the tensor core would cut them.
__device__ inline std::uint32_t to_tf32(std::uint32_t bits) {
  std::uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
}

}  // namespace fusionops::cuda
