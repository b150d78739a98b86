// The products of block_products.h. In both a panel of the values stays in the first-level cache
// while the tiles of the block pass by. Bound: 2 operations a number of the block and column.
#include "cpu/block_products.h"

#include <algorithm>

#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
void add_toward_rows(const T* block, std::int64_t rows, std::int64_t columns,
                     const RowPanels<T>& values, std::int64_t first, std::int64_t width, T* sums) {
  constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  for (std::int64_t d = 0; d < width; d += kWidth) {
    const RightSide<T> right = values.panel(d, first);
    for (std::int64_t i = 0; i < rows; i += kHeight) {
      const int n = static_cast<int>(std::min<std::int64_t>(kHeight, rows - i));
      multiply<T>(LeftSide<T, 1, kBlockStride>{block + i * kBlockStride}, right, columns, n,
                  AddTile<T>{sums + i * width + d, width, n});
    }
  }
}

template <class T>
void add_toward_columns(const T* block, std::int64_t rows, std::int64_t columns,
                        const RowPanels<T>& values, std::int64_t first, std::int64_t width,
                        T* sums) {
  constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  for (std::int64_t d = 0; d < width; d += kWidth) {
    const RightSide<T> right = values.panel(d, first);
    for (std::int64_t p = 0; p < columns; p += kHeight) {
      const int n = static_cast<int>(std::min<std::int64_t>(kHeight, columns - p));
      multiply<T>(LeftSide<T, kBlockStride, 1>{block + p}, right, rows, n,
                  AddTile<T>{sums + p * width + d, width, n});
    }
  }
}

#define FUSIONOPS_INSTANTIATE(T)                                                              \
  template void add_toward_rows(const T*, std::int64_t, std::int64_t, const RowPanels<T>&,    \
                                std::int64_t, std::int64_t, T*);                              \
  template void add_toward_columns(const T*, std::int64_t, std::int64_t, const RowPanels<T>&, \
                                   std::int64_t, std::int64_t, T*);
FUSIONOPS_INSTANTIATE(float)
FUSIONOPS_INSTANTIATE(double)

}  // namespace fusionops::cpu::FUSIONOPS_ISA
