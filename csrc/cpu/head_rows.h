// Rows of one head of a side, as the products over tokens want them: in the accumulation type,
// contiguous, whole vectors long.
//
// Where the tensor is like that, its own memory is used; otherwise a row is widened into scratch,
// with zeros behind it. A row that is missing is a row of zeros, so what stands in its place is
// never read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/tensor_view.h"
#include "cpu/pack.h"
#include "cpu/rows.h"
#include "cpu/simd.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

template <class T>
bool is_of(DType dtype) {
  return dtype == (std::is_same_v<T, double> ? DType::float64 : DType::float32);
}

// The features of a head, and how many the products see: whole vectors.
template <class T>
struct HeadWidth {
  HeadWidth(std::int64_t columns, std::int64_t heads)
      : exact(columns / heads), padded(round_up(exact, Vec<T>::kSize)) {}
  std::int64_t exact, padded;
};

template <class T>
class HeadRows {
 public:
  HeadRows(const MatrixView& side, std::int64_t heads)
      : side_(side),
        heads_(heads),
        width_(side.columns, heads),
        direct_(is_of<T>(side.dtype) && side.column_stride == 1 && width_.exact == width_.padded) {}

  std::int64_t rows() const { return side_.rows; }
  std::int64_t width() const { return width_.padded; }
  // Elements of scratch for the rows of a sample.
  std::int64_t scratch() const { return direct_ ? 0 : side_.rows * heads_ * width_.padded; }

  // rows[h * rows() + i] for every row i of every head h of sample b; of a batch of one, all
  // samples share it. Fetches the same rows of sample `next`, as hardware stops at every page of
  // 4 KB, which is few samples.
  void gather(std::int64_t b, std::int64_t next, const MaskView& mask, const T* zeros,
              const T** rows, T* scratch) const {
    const std::int64_t sample = side_.batch == 1 ? 0 : b;
    if (!direct_) return widen_rows(sample, b, mask, zeros, rows, scratch);
    const T* row = side_.template at<T>(sample, 0, 0);
    const std::int64_t ahead = next < side_.batch ? (next - sample) * side_.batch_stride : 0;
    for (std::int64_t i = 0; i < side_.rows; ++i, row += side_.row_stride) {
      if (ahead != 0) prefetch_row(row + ahead, side_.columns);
      name(mask.present() && !mask(b, i) ? zeros : row, width_.exact, zeros, rows + i);
    }
  }

 private:
  // The heads of one row, `step` apart in memory; all of a missing row are the same zeros.
  void name(const T* row, std::int64_t step, const T* zeros, const T** rows) const {
    if (row == zeros) step = 0;
    for (std::int64_t h = 0; h < heads_; ++h, row += step) rows[h * side_.rows] = row;
  }

  void widen_rows(std::int64_t sample, std::int64_t b, const MaskView& mask, const T* zeros,
                  const T** rows, T* scratch) const {
    with_source<T>(side_.dtype, [&]<class Source>(Source*) {
      for (std::int64_t i = 0; i < side_.rows; ++i, scratch += heads_ * width_.padded) {
        const bool present = !mask.present() || mask(b, i);
        name(present ? scratch : zeros, width_.padded, zeros, rows + i);
        if (!present) continue;
        const Source* source = side_.template at<Source>(sample, i, 0);
        for (std::int64_t h = 0; h < heads_; ++h, source += width_.exact * side_.column_stride) {
          widen_row(source, side_.column_stride, width_.exact, scratch + h * width_.padded);
        }
      }
    });
  }

  const MatrixView side_;
  const std::int64_t heads_;
  const HeadWidth<T> width_;
  const bool direct_;
};

// Where the products put rows of a head of a result; narrowed from scratch if its memory will not
// do.
template <class T>
class HeadResult {
 public:
  HeadResult(const MatrixOutput& out, std::int64_t heads)
      : out_(out),
        width_(out.columns, heads),
        direct_(is_of<T>(out.dtype) && width_.exact == width_.padded),
        streams_(direct_ && can_stream<T>(out.data, out.batch * out.rows, out.columns)) {}

  bool wanted() const { return out_.data != nullptr; }
  bool streams() const { return streams_; }
  std::int64_t rows() const { return out_.rows; }
  std::int64_t width() const { return width_.padded; }
  std::int64_t scratch() const { return direct_ ? 0 : out_.rows * width_.padded; }

  // rows[i] for every row i of head `head` of sample b; `waste` where it is missing.
  void place(std::int64_t b, std::int64_t head, const MaskView& mask, T* waste, T** rows,
             T* scratch) const {
    T* first = direct_ ? at<T>(b, 0, head) : scratch;
    const std::int64_t step = direct_ ? out_.columns : width_.padded;
    for (std::int64_t i = 0; i < out_.rows; ++i, first += step) rows[i] = first;
    if (!mask.present()) return;
    for (std::int64_t i = 0; i < out_.rows; ++i) rows[i] = mask(b, i) ? rows[i] : waste;
  }

  // After the products: scratch to the result, and zeros where a row is missing.
  void finish(std::int64_t b, std::int64_t head, const MaskView& mask, const T* scratch) const {
    const bool masked = mask.present();
    if (direct_ && !masked) return;
    with_source<T>(out_.dtype, [&]<class Out>(Out*) {
      for (std::int64_t i = 0; i < out_.rows; ++i) {
        Out* row = at<Out>(b, i, head);
        if (masked && !mask(b, i)) {
          std::fill(row, row + width_.exact, Out{});
        } else if (!direct_) {
          const T* source = scratch + i * width_.padded;
          for (std::int64_t d = 0; d < width_.exact; ++d) narrow(source[d], row + d);
        }
      }
    });
  }

 private:
  template <class Out>
  Out* at(std::int64_t b, std::int64_t i, std::int64_t head) const {
    return static_cast<Out*>(out_.data) + (b * out_.rows + i) * out_.columns + head * width_.exact;
  }

  const MatrixOutput out_;
  const HeadWidth<T> width_;
  const bool direct_, streams_;
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
