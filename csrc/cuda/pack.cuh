// A few neighbouring elements that a lane loads, keeps and stores as one: 16 bytes, or one element.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/half.h"

namespace fusionops::cuda {

// The most elements of a type that one instruction moves.
template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bfloat16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
__device__ inline float widen(float16 x) { return __half2float(__ushort_as_half(x.bits)); }

template <class T>
__device__ T narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline bfloat16 narrow<bfloat16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
template <>
__device__ inline float16 narrow<float16>(float x) {
  return {__half_as_ushort(__float2half_rn(x))};
}

// Two neighbours in one register; the first in the lower half.
template <class T>
__device__ float2 widen_two(unsigned word);
template <>
__device__ inline float2 widen_two<bfloat16>(unsigned word) {
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000U)};
}
template <>
__device__ inline float2 widen_two<float16>(unsigned word) {
  return {widen(float16{static_cast<unsigned short>(word)}),
          widen(float16{static_cast<unsigned short>(word >> 16)})};
}

template <class T>
__device__ unsigned narrow_two(float x, float y) {
  return narrow<T>(x).bits | static_cast<unsigned>(narrow<T>(y).bits) << 16;
}

template <class T, int kSize>
struct Pack;

template <class T>
struct Pack<T, 1> {
  T element;

  __device__ void get(float (&x)[1]) const { x[0] = widen(element); }
  __device__ void set(const float (&x)[1]) { element = narrow<T>(x[0]); }
};

template <>
struct Pack<float, 4> {
  float4 elements;

  __device__ void get(float (&x)[4]) const {
    x[0] = elements.x, x[1] = elements.y, x[2] = elements.z, x[3] = elements.w;
  }
  __device__ void set(const float (&x)[4]) { elements = {x[0], x[1], x[2], x[3]}; }
};

template <class T>
struct Pack<T, 8> {
  uint4 words;

  __device__ void get(float (&x)[8]) const {
    const unsigned all[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 two = widen_two<T>(all[i]);
      x[2 * i] = two.x, x[2 * i + 1] = two.y;
    }
  }
  __device__ void set(const float (&x)[8]) {
    words = {narrow_two<T>(x[0], x[1]), narrow_two<T>(x[2], x[3]), narrow_two<T>(x[4], x[5]),
             narrow_two<T>(x[6], x[7])};
  }
};

}  // namespace fusionops::cuda
