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
        width_(side.columns, heads),
        direct_(is_of<T>(side.dtype) && side.column_stride == 1 && width_.exact == width_.padded) {}

  std::int64_t rows() const { return side_.rows; }
  std::int64_t width() const { return width_.padded; }
  // Elements of scratch for the rows of one head.
  std::int64_t scratch() const { return direct_ ? 0 : side_.rows * width_.padded; }

  // Fetches what gather will name, if it stands in the tensor's memory.
  [[gnu::always_inline]] void fetch(std::int64_t b, std::int64_t head) const {
    if (!direct_ || b >= side_.batch) return;
    const T* row = side_.template at<T>(b, 0, head * width_.exact);
    for (std::int64_t i = 0; i < side_.rows; ++i, row += side_.row_stride) {
      prefetch_row(row, width_.exact);
    }
  }

  // rows[i] for every row i of head `head` of sample b; of a batch of one, all samples share it.
  void gather(std::int64_t b, std::int64_t head, const MaskView& mask, const T* zeros,
              const T** rows, T* scratch) const {
    const std::int64_t sample = side_.batch == 1 ? 0 : b;
    const T* first = direct_ ? side_.template at<T>(sample, 0, head * width_.exact) : scratch;
    const std::int64_t step = direct_ ? side_.row_stride : width_.padded;
    for (std::int64_t i = 0; i < side_.rows; ++i, first += step) rows[i] = first;
    if (mask.present()) {
      for (std::int64_t i = 0; i < side_.rows; ++i) rows[i] = mask(b, i) ? rows[i] : zeros;
    }
    if (!direct_) widen_rows(sample, head, zeros, rows, scratch);
  }

 private:
  void widen_rows(std::int64_t sample, std::int64_t head, const T* zeros, const T* const* rows,
                  T* scratch) const {
    with_type(side_.dtype, [&]<class Source>(Source*) {
      for (std::int64_t i = 0; i < side_.rows; ++i, scratch += width_.padded) {
        if (rows[i] == zeros) continue;
        const Source* source = side_.template at<Source>(sample, i, head * width_.exact);
        for (std::int64_t d = 0; d < width_.exact; ++d) {
          scratch[d] = static_cast<T>(widen(source[d * side_.column_stride]));
        }
        std::fill(scratch + width_.exact, scratch + width_.padded, T(0));
      }
    });
  }

  const MatrixView side_;
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
    with_type(out_.dtype, [&]<class Out>(Out*) {
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
