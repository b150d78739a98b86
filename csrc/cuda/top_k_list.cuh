// Lists of the best scored items, kept by a warp.
//
// An entry is one 64-bit key that sorts as the lists do: the score in the high half, as an integer
// of the same order, the index in the low half, negated. So the tie rule is one comparison, the
// order is total, and no order of arrival shows in a list. Key 0 is no entry, below all.
// Indices take 32 bits: a catalogue has less than kMostItems items.
#pragma once

#include <math_constants.h>

#include <cstdint>

namespace fusionops::cuda {

using Key = unsigned long long;

inline constexpr unsigned kAllLanes = 0xffffffff;
inline constexpr std::int64_t kMostItems = 0xffffffff;

__device__ inline Key key_of(float score, std::uint32_t index) {
  const std::uint32_t bits = __float_as_uint(score + 0.0F);  // zeros of either sign are equal
  const std::uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000U;
  return static_cast<Key>(ordered) << 32 | static_cast<std::uint32_t>(~index);
}

__device__ inline std::uint32_t index_of(Key key) { return ~static_cast<std::uint32_t>(key); }

// -inf for no entry.
__device__ inline float score_of(Key key) {
  if (key == 0) return -CUDART_INF_F;
  const auto ordered = static_cast<std::uint32_t>(key >> 32);
  return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffU : ~ordered);
}

// One step of a sorting network: keeps the larger of a pair of lanes where `larger` says so.
__device__ inline Key exchange(Key key, int distance, bool larger) {
  const Key other = __shfl_xor_sync(kAllLanes, key, distance);
  return (key > other) == larger ? key : other;
}

// A key a lane, descending along the lanes. Of keys that rise and then fall, or the reverse.
__device__ inline Key sort_bitonic(Key key, int lane) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    key = exchange(key, distance, (lane & distance) == 0);
  }
  return key;
}

// Of any keys.
__device__ inline Key sort_keys(Key key, int lane) {
#pragma unroll
  for (int size = 2; size <= 32; size *= 2) {
#pragma unroll
    for (int distance = size / 2; distance > 0; distance /= 2) {
      key = exchange(key, distance, ((lane & distance) == 0) == ((lane & size) == 0));
    }
  }
  return key;
}

// The best `chunks` * 32 keys so far, descending, in memory that one warp has to itself.
struct KeyList {
  Key* keys;
  int chunks;

  __device__ void clear(int lane) const {
    for (int c = 0; c < chunks; ++c) keys[c * 32 + lane] = 0;
    __syncwarp();
  }

  // Merges keys that descend along the lanes.
  __device__ void merge(Key incoming, int lane) const {
    for (int c = 0; c < chunks; ++c) {
      const Key best = __shfl_sync(kAllLanes, incoming, 0);
      if (best == 0) break;
      Key* at = keys + c * 32 + lane;
      const Key own = *at;
      if (best <= __shfl_sync(kAllLanes, own, 31)) continue;
      const Key mirrored = __shfl_sync(kAllLanes, incoming, 31 - lane);
      *at = sort_bitonic(max(own, mirrored), lane);
      incoming = sort_bitonic(min(own, mirrored), lane);
    }
    __syncwarp();
  }

  // The keys that the list does not hold, descending again. What is equal stands side by side.
  __device__ Key without_known(Key incoming, int lane) const {
    const Key before = __shfl_up_sync(kAllLanes, incoming, 1);
    const bool known = (lane > 0 && before == incoming) || contains(incoming);
    return sort_keys(known ? 0 : incoming, lane);
  }

 private:
  __device__ bool contains(Key key) const {
    int low = 0, high = chunks * 32;  // keys[i] > key for i < low, keys[i] <= key for i >= high
    while (low < high) {
      const int middle = (low + high) / 2;
      if (keys[middle] > key) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < chunks * 32 && keys[low] == key;
  }
};

}  // namespace fusionops::cuda
