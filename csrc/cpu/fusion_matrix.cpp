// fusion_matrix: scores of all pairs, (user . item) * user_scale * item_scale.
//
// A task is a block of users times a block of items. Both are packed into the worker's scratch,
// which stays in its second-level cache; tiles then run item panel by item panel, so a panel of
// items is read from the first level by every tile of users. Scales and the conversion to the
// output's dtype are applied on the way out. Bound: 2 U P D operations, or, for D below about 50,
// the U P elements that are written once.
#include <algorithm>

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kUserBytes = 128 * 1024;  // packed users of a task
constexpr std::int64_t kItemBytes = 256 * 1024;  // packed items of a task

// Writes `rows` x `columns` of a tile, scaled, to out with the given row stride.
template <class T, class Out>
void store_tile(const T* tile, int rows, int columns, const T* row_scale, const T* column_scale,
                Out* out, std::int64_t stride) {
  for (int r = 0; r < rows; ++r) {
    const T* from = tile + r * Tile<T>::kWidth;
    Out* to = out + r * stride;
    const T scale = row_scale == nullptr ? T(1) : row_scale[r];
    for (int c = 0; c < columns; ++c) {
      T x = from[c] * scale;
      if (column_scale != nullptr) x *= column_scale[c];
      narrow(x, to + c);
    }
  }
}

template <class T, class Out>
class Product {
 public:
  Product(const FusionMatrixArgs& args, const Executor& executor)
      : args_(args),
        depth_(args.user.columns),
        users_(rows_per_block<T>(depth_, kUserBytes, kHeight, 480)),
        items_(rows_per_block<T>(depth_, kItemBytes, kWidth, 2048)),
        user_blocks_(ceil_div(args.user.rows, users_)),
        item_blocks_(ceil_div(args.item.rows, items_)),
        user_panels_(executor.workers(), users_ * depth_),
        item_panels_(executor.workers(), items_ * depth_) {}

  std::int64_t tasks() const { return args_.user.batch * user_blocks_ * item_blocks_; }

  void run(std::int64_t task, int worker) {
    const std::int64_t b = task / (user_blocks_ * item_blocks_);
    const std::int64_t u0 = task / item_blocks_ % user_blocks_ * users_;
    const std::int64_t p0 = task % item_blocks_ * items_;
    const std::int64_t u1 = std::min(args_.user.rows, u0 + users_);
    const std::int64_t p1 = std::min(args_.item.rows, p0 + items_);
    T* users = user_panels_.of(worker);
    T* items = item_panels_.of(worker);
    pack_rows<kHeight>(args_.user, b, u0, u1, users);
    pack_rows<kWidth>(args_.item, b, p0, p1, items);
    for (std::int64_t p = p0; p < p1; p += kWidth) {
      for (std::int64_t u = u0; u < u1; u += kHeight) {
        const int rows = static_cast<int>(std::min<std::int64_t>(kHeight, u1 - u));
        const int columns = static_cast<int>(std::min<std::int64_t>(kWidth, p1 - p));
        alignas(64) T tile[kHeight * kWidth];
        multiply<T>(PackedLeft<T>{users + (u - u0) * depth_},
                    RightSide<T>{items + (p - p0) * depth_}, depth_, rows, StoreTile<T>{tile});
        store_tile(
            tile, rows, columns, scale(args_.user_scale, b * args_.user.rows + u),
            scale(args_.item_scale, b * args_.item.rows + p),
            static_cast<Out*>(args_.out.data) + (b * args_.user.rows + u) * args_.item.rows + p,
            args_.item.rows);
      }
    }
  }

 private:
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;

  static const T* scale(Scale values, std::int64_t at) {
    return values == nullptr ? nullptr : static_cast<const T*>(values) + at;
  }

  const FusionMatrixArgs& args_;
  const std::int64_t depth_, users_, items_, user_blocks_, item_blocks_;
  Scratch<T> user_panels_, item_panels_;
};

}  // namespace

void fusion_matrix(const FusionMatrixArgs& args, const Executor& executor) {
  if (args.out.batch == 0 || args.user.rows == 0 || args.item.rows == 0) return;
  with_accumulator(args.user.dtype, [&]<class T>(T*) {
    with_type(args.out.dtype, [&]<class Out>(Out*) {
      Product<T, Out> product(args, executor);
      executor.run(product.tasks(), [&](std::int64_t t, int worker) { product.run(t, worker); });
    });
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
