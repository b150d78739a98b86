// fusion_topk: the k best items of every user, without the U x P scores.
//
// A block scores its users against one run of the items, tile by tile, and keeps what is good
// enough (top_k_collect.cuh); the lists of all runs are merged by a second kernel. The order of
// entries is total, so neither the runs nor the tiles show in the result. Candidates are gathered:
// a block has one user then, and its list's rows instead of a run. Bound: 2 U P D operations; for
// few users, reading the items once.
#include "cuda/fusion_topk.h"

#include <algorithm>
#include <stdexcept>

#include "cuda/launch.h"
#include "cuda/rows_view.h"
#include "cuda/top_k_collect.cuh"

namespace fusionops::cuda {
namespace {

constexpr std::int64_t kLeastItems = 1024;      // worth a run
constexpr std::int64_t kItemsPerEntry = 8;      // longer lists want longer runs
constexpr std::int64_t kListBytes = 256 << 20;  // no more runs than whose lists fit in here
constexpr int kMergeWarps = 8;

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kResident)
    collect_kernel(const TopKProblem problem) {
  using Memory = typename Collector<Shape>::Memory;
  extern __shared__ __align__(128) char memory[];
  const std::int64_t block = blockIdx.x % problem.user_blocks;
  const std::int64_t split = blockIdx.x / problem.user_blocks;
  Rows users = problem.users;
  std::int64_t user = block * Shape::kUsers;
  Span places{split * problem.split_items,
              min(problem.items.count, (split + 1) * problem.split_items)};
  if (problem.candidate_offsets != nullptr) {
    user = block;
    users.count = user + 1;
    places = span_of(problem.candidate_offsets, user, problem.candidate_size);
  }
  Collector<Shape> collector(problem, reinterpret_cast<Memory*>(memory + Shape::kRingBytes), user,
                             users.count, split, places.end);
  ScoreLoop<Shape> loop(memory, users, user, problem.items, places.begin, places.end);
  loop.run(
      [&](std::int64_t place, int slot) { collector.begin(place, slot); },
      [&](std::int64_t place, int slot, const auto& sum) { collector.take(place, slot, sum); });
  collector.finish();
}

// Merges one list into another, of the same user.
__device__ void merge_lists(const TopKProblem& problem, Key* into, const Key* from, int lane) {
  const KeyList list{into, problem.chunks};
  for (int c = 0; c < problem.chunks; ++c) {
    Key key = from[c * 32 + lane];
    if (__shfl_sync(kAllLanes, key, 0) <= into[problem.k - 1]) return;
    if (problem.candidate_offsets != nullptr) key = list.without_known(key, lane);
    list.merge(key, lane);
  }
}

// A block merges the lists of one user: each warp every kMergeWarps-th, then two and two.
__global__ void __launch_bounds__(kMergeWarps * 32) merge_kernel(const TopKProblem problem) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t user = blockIdx.x, size = problem.chunks * 32;
  Key* lists = problem.lists + user * problem.lists_each * size;
  for (std::int64_t i = warp + kMergeWarps; i < problem.lists_each; i += kMergeWarps) {
    merge_lists(problem, lists + warp * size, lists + i * size, lane);
  }
  for (int apart = 1; apart < kMergeWarps; apart *= 2) {
    __syncthreads();
    if (warp % (2 * apart) == 0 && warp + apart < problem.lists_each) {
      merge_lists(problem, lists + warp * size, lists + (warp + apart) * size, lane);
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < problem.k; i += kMergeWarps * 32) {
    const Key key = lists[i];
    problem.scores[user * problem.k + i] = score_of(key);
    problem.indices[user * problem.k + i] = key == 0 ? -1 : std::int64_t{index_of(key)};
  }
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t multiprocessors() {
  int device = 0, count = 1;
  check(cudaGetDevice(&device), "fusion_topk");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "fusion_topk");
  return count;
}

std::int64_t list_chunks(const FusionTopkArgs& args) { return ceil_div(args.k, 32); }

// How the work is cut: by users, and into runs of items, as many as fill the GPU once.
struct Cut {
  std::int64_t user_blocks, splits, split_items, lists_each;
};

template <class Shape>
Cut cut_of(const FusionTopkArgs& args) {
  const std::int64_t users = args.user.rows, items = args.item.rows;
  if (args.candidates.present()) return {users, 1, items, Shape::kAcross};
  if (users == 0 || items == 0) return {ceil_div(users, Shape::kUsers), 1, 0, Shape::kAcross};
  const std::int64_t blocks = ceil_div(users, Shape::kUsers);
  const std::int64_t list_bytes =
      list_chunks(args) * 32 * static_cast<std::int64_t>(sizeof(Key)) * Shape::kAcross;
  const std::int64_t runs =
      std::min({multiprocessors() * Shape::kResident / blocks, kListBytes / (users * list_bytes),
                items / std::max(kLeastItems, kItemsPerEntry * args.k)});
  const std::int64_t run =
      ceil_div(ceil_div(items, std::max<std::int64_t>(runs, 1)), Shape::kItems) * Shape::kItems;
  const std::int64_t splits = ceil_div(items, run);
  return {blocks, splits, run, splits * Shape::kAcross};
}

template <class Shape>
void start(const FusionTopkArgs& args, cudaStream_t stream) {
  const Cut cut = cut_of<Shape>(args);
  TopKProblem problem{rows_of(args.user),
                      rows_of(args.item),
                      args.user_scale,
                      args.item_scale,
                      args.item_bias,
                      args.allowed,
                      args.exclude.offsets,
                      args.exclude.indices,
                      args.exclude.size,
                      args.candidates.offsets,
                      args.candidates.size,
                      cut.user_blocks,
                      cut.split_items,
                      static_cast<Key*>(args.scratch),
                      cut.lists_each,
                      static_cast<int>(args.k),
                      static_cast<int>(list_chunks(args)),
                      args.scores,
                      args.indices};
  problem.items.chosen = args.candidates.indices;
  using Memory = typename Collector<Shape>::Memory;
  launch("fusion_topk", collect_kernel<Shape>,
         dim3(static_cast<unsigned>(cut.user_blocks * cut.splits)), dim3(Shape::kThreads),
         Shape::kRingBytes + sizeof(Memory), stream, problem);
  launch("fusion_topk", merge_kernel, dim3(static_cast<unsigned>(args.user.rows)),
         dim3(kMergeWarps * 32), 0, stream, problem);
}

// Calls f<Shape>() for the tile that serves these arguments. Candidates are gathered for one user
// at a time, by small tiles.
template <class F>
auto with_shape(const FusionTopkArgs& args, const F& f) {
  const auto by_size = [&]<class Large, class Small>() {
    const bool large = args.user.rows > Small::kUsers && !args.candidates.present();
    return large ? f.template operator()<Large>() : f.template operator()<Small>();
  };
  switch (args.user.dtype) {
    case DType::bfloat16:
      return by_size
          .template operator()<LargeTensorTile<__nv_bfloat16>, SmallTensorTile<__nv_bfloat16>>();
    case DType::float16:
      return by_size.template operator()<LargeTensorTile<__half>, SmallTensorTile<__half>>();
    case DType::float32:
      if (!args.allow_tf32) {
        return by_size.template operator()<LargePlainTile<float>, SmallPlainTile<float>>();
      }
      return by_size.template operator()<LargeTensorTile<float>, SmallTensorTile<float>>();
    default:
      throw std::invalid_argument("fusion_topk: float64 is not served");
  }
}

}  // namespace

std::int64_t fusion_topk_scratch(const FusionTopkArgs& args) {
  return with_shape(args, [&]<class Shape>() {
    return args.user.rows * cut_of<Shape>(args).lists_each * list_chunks(args) * 32 *
           static_cast<std::int64_t>(sizeof(Key));
  });
}

void fusion_topk(const FusionTopkArgs& args, cudaStream_t stream) {
  if (args.k < 1 || args.k > kLongestTopK || args.item.rows >= kMostItems) {
    throw std::invalid_argument("fusion_topk: k or the number of items is out of range");
  }
  with_shape(args, [&]<class Shape>() { start<Shape>(args, stream); });
}

}  // namespace fusionops::cuda
