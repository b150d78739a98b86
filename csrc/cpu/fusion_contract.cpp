// fusion_contract: left^T diag(scale) right, a sum over the long side of two tall matrices.
//
// It is the item side of fusion_recommend (item^T values), the Gram matrix of normalization
// "matrix", and both gradients of fusion_matrix. A task is a block of the result times a part of
// the long side, walked in chunks of one tile block: both sides of a chunk are packed into the
// worker's scratch and multiplied, and the tiles are added up there. Where the result has too few
// blocks to keep many cores busy, the long side is split, by the shape alone, and the parts are
// added in ascending order: the bits do not depend on the threads.
// Bound: 2 K M N operations; each side is read once a block of the other.
#include <algorithm>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kLeastPart = 2048;           // rows of the long side worth a task
constexpr std::int64_t kBlockElements = 32 * 1024;  // of a block's sums: they stay in cache

template <class T>
class Contraction {
 public:
  Contraction(const FusionContractArgs& args, const Executor& executor)
      : args_(args),
        length_(args.left.rows),
        columns_(std::min(round_up(args.right.columns, kWidth), round_up(256, kWidth))),
        rows_(std::min(round_up(args.left.columns, kHeight),
                       std::min<std::int64_t>(kBlockElements / columns_, 360) / kHeight * kHeight)),
        row_blocks_(ceil_div(args.left.columns, rows_)),
        column_blocks_(ceil_div(args.right.columns, columns_)),
        parts_(count_parts()),
        part_length_(round_up(ceil_div(std::max<std::int64_t>(length_, 1), parts_), kChunk)),
        left_panels_(executor.workers(), rows_ * kChunk),
        right_panels_(executor.workers(), columns_ * kChunk),
        sums_(executor.workers(), rows_ * columns_),
        partial_(parts_ == 1 ? 0 : static_cast<std::size_t>(parts_ * result_size())) {}

  std::int64_t tasks() const { return args_.left.batch * row_blocks_ * column_blocks_ * parts_; }

  void run(std::int64_t task, int worker) {
    const std::int64_t part = task % parts_;
    const std::int64_t n0 = task / parts_ % column_blocks_ * columns_;
    const std::int64_t m0 = task / parts_ / column_blocks_ % row_blocks_ * rows_;
    const std::int64_t b = task / parts_ / column_blocks_ / row_blocks_;
    const std::int64_t m1 = std::min(args_.left.columns, m0 + rows_);
    const std::int64_t n1 = std::min(args_.right.columns, n0 + columns_);
    const std::int64_t k0 = std::min(length_, part * part_length_);
    const std::int64_t k1 = std::min(length_, k0 + part_length_);
    T* sums = sums_.of(worker);
    std::fill(sums, sums + round_up(m1 - m0, kHeight) * round_up(n1 - n0, kWidth), T(0));
    for (std::int64_t k = k0; k < k1; k += kChunk) {
      add_chunk(b, k, std::min(k1, k + kChunk), m0, m1, n0, n1, worker);
    }
    if (parts_ > 1) return write(b, m0, m1, n0, n1, sums, partial_.data() + part * result_size());
    with_type(args_.out.dtype, [&]<class Out>(Out*) {
      write(b, m0, m1, n0, n1, sums, static_cast<Out*>(args_.out.data));
    });
  }

  // Adds the parts in ascending order; a task is a row of the result.
  void reduce(const Executor& executor) const {
    if (parts_ == 1) return;
    executor.run(args_.left.batch * args_.left.columns, [&](std::int64_t row, int) {
      with_type(args_.out.dtype,
                [&]<class Out>(Out*) { reduce_row(row, static_cast<Out*>(args_.out.data)); });
    });
  }

 private:
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  static constexpr std::int64_t kChunk = Tile<T>::kBlock;

  std::int64_t result_size() const {
    return args_.left.batch * args_.left.columns * args_.right.columns;
  }

  std::int64_t count_parts() const {
    const std::int64_t blocks = args_.left.batch * row_blocks_ * column_blocks_;
    return count_runs(blocks, length_, kLeastPart);
  }

  // Adds rows [k0, k1) of the long side to the worker's sums.
  void add_chunk(std::int64_t b, std::int64_t k0, std::int64_t k1, std::int64_t m0, std::int64_t m1,
                 std::int64_t n0, std::int64_t n1, int worker) {
    const std::int64_t depth = k1 - k0;
    T* left = left_panels_.of(worker);
    T* right = right_panels_.of(worker);
    const T* scale =
        args_.scale == nullptr ? nullptr : static_cast<const T*>(args_.scale) + b * length_ + k0;
    pack_columns<kHeight>(columns_of(args_.left, m0, m1), b, k0, k1, static_cast<T*>(nullptr),
                          left);
    pack_columns<kWidth>(columns_of(args_.right, n0, n1), b, k0, k1, scale, right);
    T* sums = sums_.of(worker);
    for (std::int64_t n = n0; n < n1; n += kWidth) {
      for (std::int64_t m = m0; m < m1; m += kHeight, sums += kHeight * kWidth) {
        const int rows = static_cast<int>(std::min<std::int64_t>(kHeight, m1 - m));
        alignas(64) T tile[kHeight * kWidth];
        multiply<T>(PackedLeft<T>{left + (m - m0) * depth}, RightSide<T>{right + (n - n0) * depth},
                    depth, rows, StoreTile<T>{tile});
        for (int i = 0; i < rows * kWidth; ++i) sums[i] += tile[i];
      }
    }
  }

  template <class To>
  void reduce_row(std::int64_t row, To* out) const {
    const std::int64_t width = args_.right.columns;
    for (std::int64_t n = row * width; n < (row + 1) * width; ++n) {
      T sum = partial_[static_cast<std::size_t>(n)];
      for (std::int64_t part = 1; part < parts_; ++part) {
        sum += partial_[static_cast<std::size_t>(part * result_size() + n)];
      }
      narrow(sum, out + n);
    }
  }

  template <class To>
  void write(std::int64_t b, std::int64_t m0, std::int64_t m1, std::int64_t n0, std::int64_t n1,
             const T* sums, To* out) const {
    for (std::int64_t n = n0; n < n1; n += kWidth) {
      for (std::int64_t m = m0; m < m1; m += kHeight, sums += kHeight * kWidth) {
        for (std::int64_t r = 0; r < std::min<std::int64_t>(kHeight, m1 - m); ++r) {
          To* row = out + (b * args_.left.columns + m + r) * args_.right.columns + n;
          for (std::int64_t c = 0; c < std::min<std::int64_t>(kWidth, n1 - n); ++c) {
            narrow(sums[r * kWidth + c], row + c);
          }
        }
      }
    }
  }

  const FusionContractArgs& args_;
  const std::int64_t length_, columns_, rows_, row_blocks_, column_blocks_, parts_, part_length_;
  Scratch<T> left_panels_, right_panels_, sums_;
  std::vector<T> partial_;
};

}  // namespace

void fusion_contract(const FusionContractArgs& args, const Executor& executor) {
  if (args.out.batch == 0 || args.left.columns == 0 || args.right.columns == 0) return;
  with_accumulator(args.left.dtype, [&]<class T>(T*) {
    Contraction<T> contraction(args, executor);
    executor.run(contraction.tasks(),
                 [&](std::int64_t t, int worker) { contraction.run(t, worker); });
    contraction.reduce(executor);
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
