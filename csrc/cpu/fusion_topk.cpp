// fusion_topk: the k best items of every user, without the U x P scores.
//
// A task is a block of users times a run of items. It packs its users once, then the items chunk
// by chunk (or takes the panels of a Catalog as they are); a tile of scores is scaled and compared
// with the users' cutoffs while it is in registers, and only what passes is looked at further:
// exclusion and `allowed` are tested there, at the few survivors, not at every score. Each task
// fills a list a user and hands it to the lists that all runs share, whose thresholds cut off most
// of what later runs would collect. The order of entries is total, so neither the split nor the
// threads show in the result.
// Candidate lists are scored by the same tile, one user high, over gathered rows: same bits.
// Bound: 2 U P D operations; for few users, reading the items once.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/admission.h"
#include "core/shared_top_k.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "cpu/top_k_list.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kUserBytes =
    512 * 1024;                                 // packed users of a task: half a second-level cache
constexpr std::int64_t kItemBytes = 64 * 1024;  // packed items of a chunk
constexpr std::int64_t kLeastItems = 2048;      // items worth a task
// Long lists want longer runs and fewer users at a time: they, not the scores, are the memory.
constexpr std::int64_t kItemsPerEntry = 32;
constexpr std::int64_t kListBytes = 8 * 1024 * 1024;

template <class T>
class TopK {
 public:
  TopK(const FusionTopkArgs& args, const Executor& executor)
      : args_(args),
        depth_(args.user.columns),
        kept_(std::min(args.k, args.item.rows)),
        admitted_(args.allowed, args.exclude),
        block_users_(rows_per_block<T>(depth_, kUserBytes, kHeight, most_users(kept_))),
        chunk_items_(rows_per_block<T>(depth_, kItemBytes, kPanelRows, 1024)),
        executor_(executor) {}

  void run() {
    if (args_.candidates.present()) {
      run_candidates();
    } else {
      run_catalogue();
    }
  }

 private:
  static constexpr int kHeight = Tile<T>::kHeight, kWidth = Tile<T>::kWidth;
  using Entry = Scored<T>;

  // What the lists of a worker's users stand in, and where one is taken out.
  struct ListMemory {
    ListMemory(int workers, std::int64_t users, std::int64_t kept)
        : kept(kept),
          scores(workers, users * TopKList<T>::capacity(kept)),
          indices(workers, users * TopKList<T>::capacity(kept)),
          taken(workers, kept) {}

    TopKList<T> list(int worker, std::int64_t user) {
      const std::int64_t at = user * TopKList<T>::capacity(kept);
      return {scores.of(worker) + at, indices.of(worker) + at, kept};
    }

    std::vector<TopKList<T>> lists(int worker, std::int64_t users) {
      std::vector<TopKList<T>> all;
      all.reserve(static_cast<std::size_t>(users));
      for (std::int64_t u = 0; u < users; ++u) all.push_back(list(worker, u));
      return all;
    }

    std::int64_t kept;
    Scratch<T> scores;
    Scratch<std::int64_t> indices;
    Scratch<Entry> taken;
  };

  // --- every item is scored -------------------------------------------------------------------

  void run_catalogue() {
    const std::int64_t blocks = ceil_div(args_.user.rows, block_users_);
    const std::int64_t least_items = std::max(kLeastItems, kItemsPerEntry * kept_);
    const std::int64_t runs = count_runs(blocks, args_.item.rows, least_items);
    const std::int64_t run_items = round_up(ceil_div(args_.item.rows, runs), chunk_items_);
    SharedTopK<T> best(args_.user.rows, kept_);
    const int workers = executor_.workers();
    Scratch<T> users(workers, round_up(block_users_, kHeight) * depth_);
    Scratch<T> items(workers, args_.panels == nullptr ? chunk_items_ * depth_ : 0);
    Scratch<T> cutoffs(workers, block_users_), scales(workers, block_users_);
    ListMemory memory(workers, block_users_, kept_);
    executor_.run(blocks * runs, [&](std::int64_t task, int worker) {
      const std::int64_t run = task % runs, u0 = task / runs * block_users_;
      const std::int64_t u1 = std::min(args_.user.rows, u0 + block_users_);
      const std::int64_t p0 = std::min(args_.item.rows, run * run_items);
      const std::int64_t p1 = std::min(args_.item.rows, p0 + run_items);
      pack_rows<kHeight>(args_.user, 0, u0, u1, users.of(worker));
      Block block{u0,
                  u1,
                  users.of(worker),
                  items.of(worker),
                  cutoffs.of(worker),
                  scales.of(worker),
                  memory.lists(worker, u1 - u0)};
      std::fill_n(block.cutoffs, block_users_, std::numeric_limits<T>::infinity());
      std::fill_n(block.cutoffs, u1 - u0, -std::numeric_limits<T>::infinity());
      for (std::int64_t u = u0; u < u1; ++u) block.scales[u - u0] = scale_of(u);
      for (std::int64_t p = p0; p < p1; p += chunk_items_) {
        for (std::int64_t u = u0; u < u1; ++u) {
          T& cutoff = block.cutoffs[u - u0];
          cutoff = std::max(cutoff, best.cutoff(u));
        }
        score_chunk(block, p, std::min(p1, p + chunk_items_));
      }
      for (std::int64_t u = u0; u < u1; ++u) {
        auto& list = block.lists[static_cast<std::size_t>(u - u0)];
        Entry* taken = memory.taken.of(worker);
        best.merge(u, taken, list.take(best.cutoff(u), taken));
      }
    });
    executor_.run(args_.user.rows,
                  [&](std::int64_t u, int) { write(u, best.row(u), best.size(u)); });
  }

  // A worker's part of a task.
  struct Block {
    std::int64_t u0, u1;
    const T* users;  // packed
    T* items;        // where chunks are packed
    T* cutoffs;      // a score must be above it to matter; +inf for rows that pad the last panel
    T* scales;       // of the users
    std::vector<TopKList<T>> lists;
  };

  void score_chunk(Block& block, std::int64_t p0, std::int64_t p1) const {
    if (args_.panels == nullptr) pack_rows<kWidth>(args_.item, 0, p0, p1, block.items);
    for (std::int64_t p = p0; p < p1; p += kWidth) {
      if (plain()) {
        score_panel<true>(block, p, panel(block, p0, p));
      } else {
        score_panel<false>(block, p, panel(block, p0, p));
      }
    }
  }

  RightSide<T> panel(const Block& block, std::int64_t p0, std::int64_t p) const {
    if constexpr (std::is_same_v<T, float>) {
      if (args_.panels != nullptr) {
        return {args_.panels + p / kPanelRows * kPanelRows * depth_ + p % kPanelRows, kPanelRows};
      }
    }
    return {block.items + (p - p0) * depth_};
  }

  // Item scales and biases of one panel.
  struct Columns {
    Columns(const FusionTopkArgs& args, std::int64_t p) : p(p) {
      const auto count = static_cast<int>(std::min<std::int64_t>(kWidth, args.item.rows - p));
      const T* s = static_cast<const T*>(args.item_scale);
      const T* b = static_cast<const T*>(args.item_bias);
      for (int c = 0; c < kWidth; ++c) {
        scale[c] = s == nullptr || c >= count ? T(1) : s[p + c];
        bias[c] = b == nullptr || c >= count ? T(0) : b[p + c];
      }
      valid = count == 32 ? ~0U : (1U << count) - 1;
    }
    std::int64_t p;
    std::uint32_t valid;  // bit c: column c is an item, not padding
    alignas(64) T scale[kWidth];
    alignas(64) T bias[kWidth];
  };

  // A panel of items against all users of the block. `kPlain`: neither user scales nor biases.
  template <bool kPlain>
  void score_panel(Block& block, std::int64_t p, const RightSide<T>& items) const {
    using V = Vec<T>;
    const Columns columns(args_, p);
    for (std::int64_t u = block.u0; u < block.u1; u += kHeight) {
      const std::int64_t at = u - block.u0;
      const int rows = static_cast<int>(std::min<std::int64_t>(kHeight, block.u1 - u));
      const T* cutoffs = block.cutoffs + at;
      const T* scales = block.scales + at;
      const auto epilogue = [&]<int kRows>(V(&sum)[kRows][Tile<T>::kVectors]) {
        std::uint32_t passed[kRows], any = 0;
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          const V cutoff = V::broadcast(cutoffs[r]);
          passed[r] = 0;
          for (int j = 0; j < Tile<T>::kVectors; ++j) {
            if constexpr (!kPlain) sum[r][j] = sum[r][j] * V::broadcast(scales[r]);
            sum[r][j] = sum[r][j] * V::load(columns.scale + j * V::kSize);
            if constexpr (!kPlain) sum[r][j] = sum[r][j] + V::load(columns.bias + j * V::kSize);
            passed[r] |= greater(sum[r][j], cutoff) << (j * V::kSize);
          }
          any |= passed[r];
        }
        if ((any & columns.valid) == 0) [[likely]]
          return;
        alignas(64) T scores[kRows * kWidth];
        StoreTile<T>{scores}(sum);
        for (int r = 0; r < std::min(kRows, rows); ++r) {
          if (passed[r] != 0)
            collect(block, at + r, passed[r] & columns.valid, p, scores + r * kWidth);
        }
      };
      multiply<T>(PackedLeft<T>{block.users + at * depth_}, items, depth_, rows, epilogue);
    }
  }

  // What of one user's row of a tile passed the cutoff is tested and enters the list.
  [[gnu::noinline]] void collect(Block& block, std::int64_t at, std::uint32_t passed,
                                 std::int64_t p, const T* scores) const {
    TopKList<T>& list = block.lists[static_cast<std::size_t>(at)];
    T cutoff = block.cutoffs[at];
    for (; passed != 0; passed &= passed - 1) {
      const int c = __builtin_ctz(passed);
      if (scores[c] > cutoff && admitted_(block.u0 + at, p + c)) {
        list.push(scores[c], p + c);
        cutoff = std::max(cutoff, list.threshold());
      }
    }
    block.cutoffs[at] = cutoff;
  }

  // --- only each user's candidates are scored ---------------------------------------------------

  void run_candidates() {
    const SortedRagged candidates(args_.candidates);
    const int workers = executor_.workers();
    Scratch<T> users(workers, kHeight * depth_), items(workers, kWidth * depth_);
    ListMemory memory(workers, 1, kept_);
    executor_.run(args_.user.rows, [&](std::int64_t u, int worker) {
      TopKList<T> list = memory.list(worker, 0);
      pack_rows<kHeight>(args_.user, 0, u, u + 1, users.of(worker));
      std::int64_t chosen[kWidth];
      int count = 0;
      std::int64_t last = -1;
      for (const std::int64_t p : candidates.row(u)) {
        if (p == last || !admitted_(u, p)) continue;  // a candidate named twice counts once
        last = p;
        chosen[count++] = p;
        if (count == kWidth) {
          score_gathered(u, chosen, count, users.of(worker), items.of(worker), list);
          count = 0;
        }
      }
      score_gathered(u, chosen, count, users.of(worker), items.of(worker), list);
      Entry* taken = memory.taken.of(worker);
      const std::int64_t size = list.take(-std::numeric_limits<T>::infinity(), taken);
      std::sort(taken, taken + size);
      write(u, taken, size);
    });
  }

  void score_gathered(std::int64_t u, const std::int64_t* chosen, int count, const T* user,
                      T* items, TopKList<T>& list) const {
    if (count == 0) return;
    with_source<T>(args_.item.dtype, [&]<class Source>(Source*) {
      const auto row = [&](int r) { return args_.item.template at<Source>(0, chosen[r], 0); };
      pack_panel<kWidth, T, Source>(row, args_.item.column_stride, count, depth_, items);
    });
    alignas(64) T tile[kHeight * kWidth];
    multiply<T>(PackedLeft<T>{user}, RightSide<T>{items}, depth_, 1, StoreTile<T>{tile});
    const T user_scale = scale_of(u);
    const T* scale = static_cast<const T*>(args_.item_scale);
    const T* bias = static_cast<const T*>(args_.item_bias);
    for (int c = 0; c < count; ++c) {
      const std::int64_t p = chosen[c];
      T score = tile[c] * user_scale * (scale == nullptr ? T(1) : scale[p]);
      // As in score_panel, to the sign of a zero.
      if (!plain()) score += bias == nullptr ? T(0) : bias[p];
      if (score > list.threshold()) list.push(score, p);
    }
  }

  // --- shared -----------------------------------------------------------------------------------

  bool plain() const { return args_.user_scale == nullptr && args_.item_bias == nullptr; }

  // How many users' lists fit in kListBytes, within what is good for the cache.
  static std::int64_t most_users(std::int64_t kept) {
    const std::int64_t list =
        TopKList<T>::capacity(kept) * static_cast<std::int64_t>(sizeof(Entry));
    return std::max<std::int64_t>(kListBytes / list, kHeight);
  }

  T scale_of(std::int64_t u) const {
    return args_.user_scale == nullptr ? T(1) : static_cast<const T*>(args_.user_scale)[u];
  }

  void write(std::int64_t u, const Entry* entries, std::int64_t size) const {
    T* scores = static_cast<T*>(args_.scores) + u * args_.k;
    std::int64_t* indices = args_.indices + u * args_.k;
    for (std::int64_t i = 0; i < args_.k; ++i) {
      scores[i] = i < size ? entries[i].score : -std::numeric_limits<T>::infinity();
      indices[i] = i < size ? entries[i].index : -1;
    }
  }

  const FusionTopkArgs& args_;
  const std::int64_t depth_, kept_;
  const Admission admitted_;
  const std::int64_t block_users_, chunk_items_;
  const Executor& executor_;
};

// A result without a single entry: no items to choose from.
template <class T>
void fill_empty(const FusionTopkArgs& args) {
  const std::int64_t size = args.user.rows * args.k;
  std::fill_n(static_cast<T*>(args.scores), size, -std::numeric_limits<T>::infinity());
  std::fill_n(args.indices, size, -1);
}

}  // namespace

void fusion_topk(const FusionTopkArgs& args, const Executor& executor) {
  check_ragged(args.exclude, args.item.rows, "exclude");
  check_ragged(args.candidates, args.item.rows, "candidates");
  if (args.user.rows == 0) return;
  with_accumulator(args.user.dtype, [&]<class T>(T*) {
    if (args.item.rows == 0) return fill_empty<T>(args);
    TopK<T>(args, executor).run();
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
