// inverse_norm: (x.x + eps)^(-1/2) of every row, the scale behind "diagonal" and "cosine".
//
// A task is a run of rows. Each row is widened into a buffer and summed in kLanes interleaved
// chains, whatever its strides, so a transposed input gives the same bits. Reads x once: bound by
// memory bandwidth.
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

// One vector's worth of chains on the widest set; the same number on all keeps the code simple.
constexpr int kLanes = 16;
constexpr std::int64_t kRowsPerTask = 256;

template <class T>
T sum_of_squares(const T* x, std::int64_t size) {
  T sums[kLanes] = {};
  std::int64_t d = 0;
  for (; d + kLanes <= size; d += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += x[d + lane] * x[d + lane];
  }
  for (int lane = 0; d < size; ++d, ++lane) sums[lane] += x[d] * x[d];
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

template <class T, class Source>
void rows_of(const InverseNormArgs& args, std::int64_t b, std::int64_t begin, std::int64_t end,
             T* buffer) {
  const std::int64_t depth = args.x.columns, stride = args.x.column_stride;
  T* out = static_cast<T*>(args.out) + b * args.x.rows;
  for (std::int64_t n = begin; n < end; ++n) {
    const Source* row = args.x.template at<Source>(b, n, 0);
    for (std::int64_t d = 0; d < depth; ++d) buffer[d] = static_cast<T>(widen(row[d * stride]));
    const T squares = sum_of_squares(buffer, depth);
    // Written so that NaN stays NaN: a row with NaN must not pass for a row of zeros.
    out[n] = squares == T(0) ? T(0) : T(1) / std::sqrt(squares + static_cast<T>(args.eps));
  }
}

template <class T>
void run(const InverseNormArgs& args, const Executor& executor) {
  const std::int64_t tasks = ceil_div(args.x.rows, kRowsPerTask);
  Scratch<T> scratch(executor.workers(), args.x.columns);
  executor.run(args.x.batch * tasks, [&](std::int64_t task, int worker) {
    const std::int64_t begin = task % tasks * kRowsPerTask;
    const std::int64_t end = std::min(args.x.rows, begin + kRowsPerTask);
    with_source<T>(args.x.dtype, [&]<class Source>(Source*) {
      rows_of<T, Source>(args, task / tasks, begin, end, scratch.of(worker));
    });
  });
}

}  // namespace

void inverse_norm(const InverseNormArgs& args, const Executor& executor) {
  if (args.x.batch == 0 || args.x.rows == 0) return;
  with_accumulator(args.x.dtype, [&]<class T>(T*) { run<T>(args, executor); });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
