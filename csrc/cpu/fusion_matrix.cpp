// fusion_matrix: scores of all pairs, (user . item) * user_scale * item_scale.
//
// A task is a block of users times a block of items. Both are packed into the worker's scratch,
// which stays in its second-level cache; tiles then run item panel by item panel, so a panel of
// items is read from the first level by every tile of users. Scales and the conversion to the
// output's dtype are applied on the way out. A result that no cache holds is written past the
// caches, which spares reading every line before it is overwritten. Bound: 2 U P D operations, or,
// for D below about 100, the U P elements that are written once.
#include <algorithm>

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kUserBytes = 128 * 1024;  // packed users of a task
constexpr std::int64_t kItemBytes = 256 * 1024;  // packed items of a task
constexpr std::int64_t kStreamBytes = 16 << 20;  // a result larger than this is streamed

template <class T>
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
        item_panels_(executor.workers(), items_ * depth_),
        direct_(args.out.dtype == (std::is_same_v<T, double> ? DType::float64 : DType::float32)),
        streams_(direct_ && can_stream()) {}

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
      const Columns columns(args_, b, p, p1);
      for (std::int64_t u = u0; u < u1; u += kHeight) {
        score_tile(columns, b, u, std::min(kHeight, u1 - u), users + (u - u0) * depth_,
                   items + (p - p0) * depth_);
      }
    }
    if (streams_) finish_streaming();
  }

 private:
  using V = Vec<T>;
  static constexpr std::int64_t kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;

  // A panel of items, with their scales.
  struct Columns {
    Columns(const FusionMatrixArgs& args, std::int64_t b, std::int64_t first, std::int64_t end)
        : p(first), count(std::min(kWidth, end - first)), scaled(args.item_scale != nullptr) {
      if (!scaled) return;
      const T* scales = static_cast<const T*>(args.item_scale) + b * args.item.rows + p;
      std::fill(std::copy_n(scales, count, scale), scale + kWidth, T(1));
    }
    std::int64_t p, count;
    bool scaled;
    alignas(64) T scale[kWidth];
  };

  void score_tile(const Columns& columns, std::int64_t b, std::int64_t u, std::int64_t rows,
                  const T* users, const T* items) const {
    const std::int64_t first = b * args_.user.rows + u;
    const std::int64_t at = first * args_.item.rows + columns.p;
    const auto* scales =
        args_.user_scale == nullptr ? nullptr : static_cast<const T*>(args_.user_scale) + first;
    // A whole row of the tile goes straight to a result of its own type.
    const bool direct = direct_ && columns.count == kWidth;
    alignas(64) T tile[kHeight * kWidth];
    T* out = direct ? static_cast<T*>(args_.out.data) + at : tile;
    const std::int64_t stride = direct ? args_.item.rows : kWidth;
    const bool streams = direct && streams_;
    const auto epilogue = [&]<int kRows>(V(&sum)[kRows][Tile<T>::kVectors]) {
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows) break;
        for (int j = 0; j < Tile<T>::kVectors; ++j) {
          if (scales != nullptr) sum[r][j] = sum[r][j] * V::broadcast(scales[r]);
          if (columns.scaled) sum[r][j] = sum[r][j] * V::load(columns.scale + j * V::kSize);
          T* to = out + r * stride + j * V::kSize;
          streams ? sum[r][j].stream(to) : sum[r][j].store(to);
        }
      }
    };
    multiply<T>(PackedLeft<T>{users}, RightSide<T>{items}, depth_, static_cast<int>(rows),
                epilogue);
    if (!direct) write(tile, rows, columns.count, at);
  }

  // A tile to the result from element `at` on.
  [[gnu::noinline]] void write(const T* tile, std::int64_t rows, std::int64_t count,
                               std::int64_t at) const {
    with_type(args_.out.dtype, [&]<class Out>(Out*) {
      for (std::int64_t r = 0; r < rows; ++r) {
        Out* out = static_cast<Out*>(args_.out.data) + at + r * args_.item.rows;
        for (std::int64_t c = 0; c < count; ++c) narrow(tile[r * kWidth + c], out + c);
      }
    });
  }

  // Streaming stores want whole aligned vectors.
  bool can_stream() const {
    constexpr std::int64_t kLine = V::kSize * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t row = args_.item.rows * static_cast<std::int64_t>(sizeof(T));
    return row % kLine == 0 && reinterpret_cast<std::uintptr_t>(args_.out.data) % kLine == 0 &&
           args_.out.batch * args_.out.rows * row > kStreamBytes;
  }

  const FusionMatrixArgs& args_;
  const std::int64_t depth_, users_, items_, user_blocks_, item_blocks_;
  Scratch<T> user_panels_, item_panels_;
  const bool direct_, streams_;
};

}  // namespace

void fusion_matrix(const FusionMatrixArgs& args, const Executor& executor) {
  if (args.out.batch == 0 || args.user.rows == 0 || args.item.rows == 0) return;
  with_accumulator(args.user.dtype, [&]<class T>(T*) {
    Product<T> product(args, executor);
    executor.run(product.tasks(), [&](std::int64_t t, int worker) { product.run(t, worker); });
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
