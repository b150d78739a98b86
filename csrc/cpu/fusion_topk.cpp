// fusion_topk: the k best items of every user, without the U x P scores.
//
// A task is a block of users times a run of items. It packs its users once, then the items chunk
// by chunk; each tile of scores is scaled and compared with the users' thresholds, and only what
// passes is looked at further: exclusion and `allowed` are tested there, at the few survivors, not
// at every score. Each task keeps a list a user; the lists of the runs are merged at the end. The
// order of entries is total, so neither the split nor the threads show in the result.
// Candidate lists are scored by the same tile, one user high, over gathered rows: same bits.
// Bound: 2 U P D operations; items are read once a block of users, scores never leave the cache.
#include <algorithm>
#include <limits>
#include <vector>

#include "core/top_k_list.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kUserBytes = 128 * 1024;  // packed users of a task
constexpr std::int64_t kItemBytes = 64 * 1024;   // packed items of a chunk
constexpr std::int64_t kWantedTasks = 64;        // enough for the cores of a large machine
constexpr std::int64_t kLeastItems = 2048;       // items worth a task
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
        excluded_(args.exclude),
        block_users_(rows_per_block<T>(depth_, kUserBytes, kHeight, most_users(kept_))),
        chunk_items_(rows_per_block<T>(depth_, kItemBytes, kWidth, 1024)),
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

  // --- every item is scored -------------------------------------------------------------------

  void run_catalogue() {
    const std::int64_t blocks = ceil_div(args_.user.rows, block_users_);
    const std::int64_t least_items = std::max(kLeastItems, kItemsPerEntry * kept_);
    const std::int64_t runs = std::max<std::int64_t>(
        1, std::min(ceil_div(kWantedTasks, blocks), args_.item.rows / least_items));
    const std::int64_t run_items = round_up(ceil_div(args_.item.rows, runs), chunk_items_);
    std::vector<Entry> lists(static_cast<std::size_t>(args_.user.rows * runs * kept_));
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(args_.user.rows * runs), 0);
    const int workers = executor_.workers();
    Scratch<T> users(workers, block_users_ * depth_), items(workers, chunk_items_ * depth_);
    Scratch<Entry> entries(workers, block_users_ * TopKList<T>::capacity(kept_));
    executor_.run(blocks * runs, [&](std::int64_t task, int worker) {
      const std::int64_t run = task % runs, u0 = task / runs * block_users_;
      const std::int64_t u1 = std::min(args_.user.rows, u0 + block_users_);
      std::vector<TopKList<T>> best = new_lists(entries.of(worker), u1 - u0);
      pack_rows<kHeight>(args_.user, 0, u0, u1, users.of(worker));
      const std::int64_t end = std::min(args_.item.rows, (run + 1) * run_items);
      for (std::int64_t p = run * run_items; p < end; p += chunk_items_) {
        score_chunk(u0, u1, p, std::min(end, p + chunk_items_), users.of(worker), items.of(worker),
                    best.data());
      }
      for (std::int64_t u = u0; u < u1; ++u) {
        auto& list = best[static_cast<std::size_t>(u - u0)];
        const std::int64_t size = list.finish();
        sizes[static_cast<std::size_t>(u * runs + run)] = size;
        std::copy_n(&list[0], size, lists.data() + (u * runs + run) * kept_);
      }
    });
    executor_.run(args_.user.rows, [&](std::int64_t u, int) {
      merge(u, lists.data() + u * runs * kept_, sizes.data() + u * runs, runs);
    });
  }

  std::vector<TopKList<T>> new_lists(Entry* storage, std::int64_t users) const {
    std::vector<TopKList<T>> lists;
    lists.reserve(static_cast<std::size_t>(users));
    for (std::int64_t u = 0; u < users; ++u) {
      lists.emplace_back(storage + u * TopKList<T>::capacity(kept_), kept_);
    }
    return lists;
  }

  void score_chunk(std::int64_t u0, std::int64_t u1, std::int64_t p0, std::int64_t p1,
                   const T* users, T* items, TopKList<T>* best) const {
    pack_rows<kWidth>(args_.item, 0, p0, p1, items);
    for (std::int64_t p = p0; p < p1; p += kWidth) {
      const int columns = static_cast<int>(std::min<std::int64_t>(kWidth, p1 - p));
      const Columns scales(args_, p, columns);
      for (std::int64_t u = u0; u < u1; u += kHeight) {
        const int rows = static_cast<int>(std::min<std::int64_t>(kHeight, u1 - u));
        alignas(64) T tile[kHeight * kWidth];
        multiply<T>(PackedLeft<T>{users + (u - u0) * depth_},
                    RightSide<T>{items + (p - p0) * depth_}, depth_, rows, StoreTile<T>{tile});
        for (int r = 0; r < rows; ++r) {
          collect(tile + r * kWidth, scales, u + r, p, best[u - u0 + r]);
        }
      }
    }
  }

  // Item scales and biases of one panel, padded so that padded columns score -inf.
  struct Columns {
    Columns(const FusionTopkArgs& args, std::int64_t p, int count) {
      const T* s = static_cast<const T*>(args.item_scale);
      const T* b = static_cast<const T*>(args.item_bias);
      for (int c = 0; c < kWidth; ++c) {
        scale[c] = s == nullptr || c >= count ? T(1) : s[p + c];
        bias[c] = c >= count ? -std::numeric_limits<T>::infinity() : b == nullptr ? T(0) : b[p + c];
      }
    }
    alignas(64) T scale[kWidth];
    alignas(64) T bias[kWidth];
  };

  // One user's row of a tile: what passes the threshold is tested and enters the list.
  void collect(T* row, const Columns& columns, std::int64_t u, std::int64_t p,
               TopKList<T>& list) const {
    using V = Vec<T>;
    const V threshold = V::broadcast(list.threshold());
    const V user_scale = V::broadcast(scale_of(u));
    for (int c = 0; c < kWidth; c += V::kSize) {
      const V score =
          V::load(row + c) * user_scale * V::load(columns.scale + c) + V::load(columns.bias + c);
      std::uint32_t passed = greater(score, threshold);
      if (passed == 0) continue;
      score.store(row + c);
      for (; passed != 0; passed &= passed - 1) {
        const int i = c + __builtin_ctz(passed);
        if (row[i] > list.threshold() && admitted(u, p + i)) list.push(row[i], p + i);
      }
    }
  }

  // --- only each user's candidates are scored ---------------------------------------------------

  void run_candidates() {
    const SortedRagged candidates(args_.candidates);
    const int workers = executor_.workers();
    Scratch<T> users(workers, kHeight * depth_), items(workers, kWidth * depth_);
    Scratch<Entry> entries(workers, TopKList<T>::capacity(kept_));
    executor_.run(args_.user.rows, [&](std::int64_t u, int worker) {
      TopKList<T> list(entries.of(worker), kept_);
      pack_rows<kHeight>(args_.user, 0, u, u + 1, users.of(worker));
      std::int64_t chosen[kWidth];
      int count = 0;
      std::int64_t last = -1;
      for (const std::int64_t p : candidates.row(u)) {
        if (p == last || !admitted(u, p)) continue;  // a candidate named twice counts once
        last = p;
        chosen[count++] = p;
        if (count == kWidth) {
          score_gathered(u, chosen, count, users.of(worker), items.of(worker), list);
          count = 0;
        }
      }
      score_gathered(u, chosen, count, users.of(worker), items.of(worker), list);
      const std::int64_t size = list.finish();
      write(u, size == 0 ? nullptr : &list[0], size);
    });
  }

  void score_gathered(std::int64_t u, const std::int64_t* chosen, int count, const T* user,
                      T* items, TopKList<T>& list) const {
    if (count == 0) return;
    with_type(args_.item.dtype, [&]<class Source>(Source*) {
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
      const T score = tile[c] * user_scale * (scale == nullptr ? T(1) : scale[p]) +
                      (bias == nullptr ? T(0) : bias[p]);
      if (score > list.threshold()) list.push(score, p);
    }
  }

  // --- shared -----------------------------------------------------------------------------------

  // How many users' lists fit in kListBytes, within what is good for the cache.
  static std::int64_t most_users(std::int64_t kept) {
    const std::int64_t list =
        TopKList<T>::capacity(kept) * static_cast<std::int64_t>(sizeof(Entry));
    return std::clamp<std::int64_t>(kListBytes / list, kHeight, 480);
  }

  T scale_of(std::int64_t u) const {
    return args_.user_scale == nullptr ? T(1) : static_cast<const T*>(args_.user_scale)[u];
  }

  bool admitted(std::int64_t u, std::int64_t p) const {
    if (args_.allowed.present() && !args_.allowed(u, p)) return false;
    return !excluded_.present() || !excluded_.contains(u, p);
  }

  // Merges a user's sorted lists, one of each run, by the total order.
  void merge(std::int64_t u, Entry* lists, const std::int64_t* sizes, std::int64_t runs) const {
    Entry* end = lists + sizes[0];
    for (std::int64_t run = 1; run < runs; ++run) {
      end = std::copy_n(lists + run * kept_, sizes[run], end);
    }
    const std::int64_t size = std::min<std::int64_t>(kept_, end - lists);
    std::partial_sort(lists, lists + size, end);
    write(u, lists, size);
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
  const SortedRagged excluded_;
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
