// Rows of a side, cut into slabs of 64 bytes and brought into shared memory.
//
// A slab holds 64 bytes (kSlab<Element> features) of each row of a tile. The four chunks of 16
// bytes of a row are permuted by the row, so that eight neighbouring rows have the same chunk in
// different banks. What a side does not have, rows past its end and features past its width, is
// zero.
#pragma once

#include <cstdint>

#include "cuda/mma.cuh"

namespace fusionops::cuda {

inline constexpr int kRowBytes = 64;
inline constexpr int kChunkBytes = 16;

template <class Element>
inline constexpr int kSlab = kRowBytes / static_cast<int>(sizeof(Element));

__device__ inline int chunk_offset(int row, int chunk) {
  return row * kRowBytes + ((chunk ^ ((row >> 1) & 3)) * kChunkBytes);
}

// The rows of one side, as a kernel sees them. A place is a position among those that are scored:
// the row itself, or with `chosen` an index into a list of rows.
struct Rows {
  const char* data;
  std::int64_t count;                      // rows
  std::int64_t row_stride, column_stride;  // in bytes
  const std::int64_t* chosen;              // null: places are rows
  std::int32_t width;                      // features
  std::int32_t copy_bytes;  // what rows are aligned to, of 16, 8 and 4; 0: read element by element

  // The row at a place before `end`; -1: there is none, or a list names one that does not exist.
  __device__ std::int64_t row(std::int64_t place, std::int64_t end) const {
    if (place >= end) return -1;
    if (chosen == nullptr) return place;
    const std::int64_t named = chosen[place];
    return named < 0 || named >= count ? -1 : named;
  }
};

// The live bytes of a chunk, in pieces as large as rows are aligned.
template <int kBytes>
__device__ void copy_chunk(char* target, const char* source, int bytes) {
#pragma unroll
  for (int at = 0; at < kChunkBytes; at += kBytes) {
    const int left = min(max(bytes - at, 0), kBytes);
    copy_async<kBytes>(target + at, left > 0 ? source + at : source, left);
  }
}

template <class Element>
__device__ void read_chunk(char* target, const char* source, int elements, std::int64_t stride) {
  constexpr int kElements = kChunkBytes / static_cast<int>(sizeof(Element));
  alignas(kChunkBytes) Element values[kElements];
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    values[e] = e < elements ? *reinterpret_cast<const Element*>(source + e * stride) : Element(0);
  }
  *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(values);
}

// Rows that are neighbours and begin at multiples of 16 bytes: the case to be fast in.
template <class Element, int kTileRows, int kThreads>
__device__ void stage_aligned(char* slab, const Rows& rows, std::int64_t first, std::int64_t end,
                              int column) {
  constexpr int kElements = kChunkBytes / static_cast<int>(sizeof(Element));
  constexpr int kRowsAtOnce = kThreads / 4;
  const int row = static_cast<int>(threadIdx.x) / 4, chunk = static_cast<int>(threadIdx.x) % 4;
  const int begin = column + chunk * kElements;
  const int bytes = min(max(rows.width - begin, 0), kElements) * static_cast<int>(sizeof(Element));
  const std::int64_t left = end - first;
  const int live = left > kTileRows ? kTileRows : static_cast<int>(left);
  const char* source = rows.data + (first + row) * rows.row_stride +
                       static_cast<std::int64_t>(begin) * static_cast<int>(sizeof(Element));
  char* target = slab + chunk_offset(row, chunk);
#pragma unroll
  for (int at = 0; at < kTileRows; at += kRowsAtOnce) {
    copy_async<16>(target + at * kRowBytes, source, row + at < live ? bytes : 0);
    source += kRowsAtOnce * rows.row_stride;
  }
}

// Any rows.
template <class Element, int kTileRows, int kThreads>
__device__ void stage_any(char* slab, const Rows& rows, std::int64_t first, std::int64_t end,
                          int column) {
  constexpr int kElements = kChunkBytes / static_cast<int>(sizeof(Element));
  // Neighbouring threads take what is likely to be neighbouring memory.
  const bool down = rows.row_stride < rows.column_stride;
#pragma unroll 1
  for (int at = static_cast<int>(threadIdx.x); at < kTileRows * 4; at += kThreads) {
    const int row = down ? at % kTileRows : at / 4, chunk = down ? at / kTileRows : at % 4;
    const int begin = column + chunk * kElements;
    const std::int64_t p = rows.row(first + row, end);
    const int elements = p < 0 ? 0 : min(max(rows.width - begin, 0), kElements);
    const char* source =
        elements == 0 ? rows.data : rows.data + p * rows.row_stride + begin * rows.column_stride;
    const int bytes = elements * static_cast<int>(sizeof(Element));
    char* target = slab + chunk_offset(row, chunk);
    if (rows.copy_bytes == 16) {
      copy_chunk<16>(target, source, bytes);
    } else if (rows.copy_bytes == 8) {
      copy_chunk<8>(target, source, bytes);
    } else if (rows.copy_bytes == 4) {
      copy_chunk<4>(target, source, bytes);
    } else {
      read_chunk<Element>(target, source, elements, rows.column_stride);
    }
  }
}

// Stages the features from `column` on of kTileRows places from `first` on. Copies that are not
// waited for: copy_commit, copy_wait and a barrier stand between this and any use.
template <class Element, int kTileRows, int kThreads>
__device__ void stage(char* slab, const Rows& rows, std::int64_t first, std::int64_t end,
                      int column) {
  static_assert(kTileRows % (kThreads / 4) == 0 && kThreads % 32 == 0);
  if (rows.copy_bytes == 16 && rows.chosen == nullptr) {
    stage_aligned<Element, kTileRows, kThreads>(slab, rows, first, end, column);
  } else {
    stage_any<Element, kTileRows, kThreads>(slab, rows, first, end, column);
  }
}

}  // namespace fusionops::cuda
