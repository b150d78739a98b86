// fusion_matrix: scores of all pairs, (user . item) * user_scale * item_scale.
//
// A block makes one tile of the result. Sums are scaled in registers, turned round through shared
// memory, eight rows of a warp at a time, and leave as whole lines: 16 bytes a thread where rows of
// the result allow it. Blocks run over the tiles in bands of kBand rows of tiles, so that those
// that run at one time share both their users and their items in the second-level cache. Bound: 2 U
// P D operations, or, for small D, writing U P numbers once.
#include "cuda/fusion_matrix.h"

#include <algorithm>
#include <stdexcept>
#include <type_traits>

#include "cuda/launch.h"
#include "cuda/rows_view.h"
#include "cuda/score_tile.cuh"

namespace fusionops::cuda {
namespace {

constexpr std::int64_t kBand = 8;
constexpr int kStageRows = 8;  // of a warp, turned round at a time

// What a block needs of the arguments.
struct Product {
  Rows users, items;
  std::int64_t user_batch_stride, item_batch_stride;  // in bytes
  const void *user_scale, *item_scale;
  void* out;
  DType out_type;
  std::int64_t tiles_down, tiles_across;
};

struct Place {
  std::int64_t batch, user, item;
};

template <class Shape>
__device__ Place place_of(const Product& product, std::int64_t block) {
  const std::int64_t tiles = product.tiles_down * product.tiles_across;
  const std::int64_t batch = block / tiles, tile = block % tiles;
  const std::int64_t band = tile / (kBand * product.tiles_across);
  const std::int64_t height = min(kBand, product.tiles_down - band * kBand);
  const std::int64_t within = tile % (kBand * product.tiles_across);
  return {batch, (band * kBand + within % height) * Shape::kUsers, within / height * Shape::kItems};
}

__device__ float converted(float x, float*) { return x; }
__device__ double converted(double x, double*) { return x; }
__device__ __nv_bfloat16 converted(float x, __nv_bfloat16*) { return __float2bfloat16_rn(x); }
__device__ __half converted(float x, __half*) { return __float2half_rn(x); }

// What a lane writes at a time: 16 bytes of sums.
template <class Sum>
inline constexpr int kUnit = 16 / static_cast<int>(sizeof(Sum));

// The first `count` of a unit, in one piece where the address allows it.
template <class Out, class Sum>
__device__ void write_unit(const Sum (&values)[kUnit<Sum>], Out* out, int count) {
  using Word = std::conditional_t<kUnit<Sum> * sizeof(Out) == 16, uint4, uint2>;
  alignas(Word) Out piece[kUnit<Sum>];
#pragma unroll
  for (int i = 0; i < kUnit<Sum>; ++i) piece[i] = converted(values[i], static_cast<Out*>(nullptr));
  if (count >= kUnit<Sum> && reinterpret_cast<std::uintptr_t>(out) % sizeof(Word) == 0) {
    store_vector(out, *reinterpret_cast<const Word*>(piece));
    return;
  }
#pragma unroll
  for (int i = 0; i < kUnit<Sum>; ++i) {
    if (i < count) out[i] = piece[i];
  }
}

template <class Sum>
__device__ void write_unit(void* out, DType type, std::int64_t at, const Sum (&values)[kUnit<Sum>],
                           int count) {
  if constexpr (sizeof(Sum) == 8) {
    write_unit(values, static_cast<double*>(out) + at, count);
  } else if (type == DType::float32) {
    write_unit(values, static_cast<float*>(out) + at, count);
  } else if (type == DType::bfloat16) {
    write_unit(values, static_cast<__nv_bfloat16*>(out) + at, count);
  } else {
    write_unit(values, static_cast<__half*>(out) + at, count);
  }
}

// Scales rows of a warp's tile that stand in shared memory, and writes them. A lane has the same
// columns in all rows, and so keeps their scales.
template <class Shape>
class RowWriter {
 public:
  using Sum = typename Shape::Sum;
  // Eight rows apart in the banks where a quarter of a warp writes pairs.
  static constexpr int kPitch = Shape::kItemRow + 8;
  static constexpr int kBytes = Shape::kWarps * kStageRows * kPitch * static_cast<int>(sizeof(Sum));

  __device__ RowWriter(const Product& product, std::int64_t batch, std::int64_t item)
      : out_(product.out),
        type_(product.out_type),
        pitch_(product.items.count),
        first_row_(batch * product.users.count),
        item_(item),
        count_(static_cast<int>(
            min(max(product.items.count - item, std::int64_t{0}), std::int64_t{kUnit<Sum>}))),
        user_scale_(static_cast<const Sum*>(product.user_scale)) {
    const Sum* scale = static_cast<const Sum*>(product.item_scale);
#pragma unroll
    for (int i = 0; i < kUnit<Sum>; ++i) {
      const bool scaled = scale != nullptr && i < count_;
      item_scale_[i] = scaled ? scale[batch * product.items.count + item + i] : Sum(1);
    }
  }

  // Where a lane stands in a row of the tile, and in which of the rows that are written at once.
  static constexpr int kLanes = Shape::kItemRow / kUnit<Sum>;
  static constexpr int kRowsAtOnce = kLanes < 32 ? 32 / kLanes : 1;
  static constexpr int kUnitsEach = kLanes < 32 ? 1 : kLanes / 32;
  static_assert(kUnitsEach == 1, "a lane keeps the scales of one unit");

  __device__ void write(const Sum* staged, std::int64_t user) const {
    const std::int64_t row = first_row_ + user;
    const Sum by_user = user_scale_ == nullptr ? Sum(1) : user_scale_[row];
    Sum values[kUnit<Sum>];
#pragma unroll
    for (int i = 0; i < kUnit<Sum>; ++i) values[i] = staged[i] * by_user * item_scale_[i];
    write_unit(out_, type_, row * pitch_ + item_, values, count_);
  }

 private:
  void* const out_;
  const DType type_;
  const std::int64_t pitch_, first_row_, item_;
  const int count_;
  const Sum* user_scale_;
  Sum item_scale_[kUnit<Sum>];
};

template <class Shape>
__device__ void write_tile(
    const Product& product, const Place& place, char* memory,
    const typename Shape::Sum (&sum)[Shape::Math::kRows][Shape::Math::kColumns]) {
  using Math = typename Shape::Math;
  using Sum = typename Shape::Sum;
  using Writer = RowWriter<Shape>;
  constexpr int kRowsEach = kStageRows * Math::kGroup / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int column = lane % Writer::kLanes * kUnit<Sum>;
  const Writer writer(product, place.batch, place.item + Shape::warp_item() + column);
  Sum* staged = reinterpret_cast<Sum*>(memory) + warp * kStageRows * Writer::kPitch;
#pragma unroll
  for (int first = 0; first < Math::kRows; first += kRowsEach) {
    const int row0 = Math::row(0, first);
#pragma unroll
    for (int i = first; i < first + kRowsEach; ++i) {
#pragma unroll
      for (int j = 0; j < Math::kColumns; ++j) {
        staged[(Math::row(lane, i) - row0) * Writer::kPitch + Math::column(lane, j)] = sum[i][j];
      }
    }
    __syncwarp();
#pragma unroll 1
    for (int r = lane / Writer::kLanes; r < kStageRows; r += Writer::kRowsAtOnce) {
      const std::int64_t user = place.user + Shape::warp_user() + row0 + r;
      if (user < product.users.count) writer.write(staged + r * Writer::kPitch + column, user);
    }
    __syncwarp();
  }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kResident)
    matrix_kernel(const Product product) {
  extern __shared__ __align__(128) char memory[];
  const Place place = place_of<Shape>(product, blockIdx.x);
  Rows users = product.users, items = product.items;
  users.data += place.batch * product.user_batch_stride;
  items.data += place.batch * product.item_batch_stride;
  ScoreLoop<Shape> loop(memory, users, place.user, items, place.item,
                        min(items.count, place.item + Shape::kItems));
  loop.run([](std::int64_t, int) {},
           [&](std::int64_t, int, const auto& sum) {
             __syncthreads();  // the rings are used anew
             write_tile<Shape>(product, place, memory, sum);
           });
}

std::int64_t tiles_of(std::int64_t size, std::int64_t tile) { return (size + tile - 1) / tile; }

template <class Shape>
void start(const FusionMatrixArgs& args, cudaStream_t stream) {
  const auto size = static_cast<std::int64_t>(size_of(args.user.dtype));
  const Product product{rows_of(args.user),
                        rows_of(args.item),
                        args.user.batch_stride * size,
                        args.item.batch_stride * size,
                        args.user_scale,
                        args.item_scale,
                        args.out.data,
                        args.out.dtype,
                        tiles_of(args.user.rows, Shape::kUsers),
                        tiles_of(args.item.rows, Shape::kItems)};
  const std::int64_t blocks = args.user.batch * product.tiles_down * product.tiles_across;
  if (blocks > 0x7fffffff) throw std::length_error("fusion_matrix: the result is too large");
  launch("fusion_matrix", matrix_kernel<Shape>, dim3(static_cast<unsigned>(blocks)),
         dim3(Shape::kThreads), std::max(Shape::kRingBytes, RowWriter<Shape>::kBytes), stream,
         product);
}

// Large tiles read less; small ones waste less on few users, and are more where there are few.
template <class Large, class Small>
void start(const FusionMatrixArgs& args, cudaStream_t stream) {
  constexpr std::int64_t kManyTiles = 128;  // about as many as a GPU has multiprocessors
  const bool many = args.user.batch * tiles_of(args.user.rows, Large::kUsers) *
                        tiles_of(args.item.rows, Large::kItems) >=
                    kManyTiles;
  if (args.user.rows > Small::kUsers && many) {
    start<Large>(args, stream);
  } else {
    start<Small>(args, stream);
  }
}

}  // namespace

void fusion_matrix(const FusionMatrixArgs& args, cudaStream_t stream) {
  switch (args.user.dtype) {
    case DType::float64:
      return start<SmallPlainTile<double>>(args, stream);
    case DType::float32:
      if (args.allow_tf32) {
        return start<LargeTensorTile<float>, SmallTensorTile<float>>(args, stream);
      }
      return start<LargePlainTile<float>, SmallPlainTile<float>>(args, stream);
    case DType::bfloat16:
      return start<LargeTensorTile<__nv_bfloat16>, SmallTensorTile<__nv_bfloat16>>(args, stream);
    case DType::float16:
      return start<LargeTensorTile<__half>, SmallTensorTile<__half>>(args, stream);
  }
}

}  // namespace fusionops::cuda
