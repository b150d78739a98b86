// Products of a block of numbers, where it stands in the second-level cache, with rows of values:
// what attention, co-attention and the gradients of the losses do with scores made into weights.
//
// They are out of line: in one function with what is around them GCC 12 spills their accumulators,
// and the losses' backward takes 1.4 times as long. So they are compiled once for all.
#pragma once

#include <cstdint>

#include "cpu/pack.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// Between the rows of a block; not a power of two, since columns of it are read.
inline constexpr int kBlockStride = 304;

// sums[i] += sum_j block[i][j] * values[first + j]: the sums are rows, `width` apart.
template <class T>
void add_toward_rows(const T* block, std::int64_t rows, std::int64_t columns,
                     const RowPanels<T>& values, std::int64_t first, std::int64_t width, T* sums);

// sums[j] += sum_i block[i][j] * values[first + i].
template <class T>
void add_toward_columns(const T* block, std::int64_t rows, std::int64_t columns,
                        const RowPanels<T>& values, std::int64_t first, std::int64_t width,
                        T* sums);

}  // namespace fusionops::cpu::FUSIONOPS_ISA
