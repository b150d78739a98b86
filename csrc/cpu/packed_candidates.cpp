// packed_candidates: the items that scores in reduced precision cannot rule out of a top-k list.
//
// Every score s' over int8 or bfloat16 comes with a bound b on its distance to the float32 kernel's
// score (core/quantize.h), so that one lies in [s' - b, s' + b]. T, the k-th largest of the lower
// ends seen so far, is a floor under the k-th best score: an item whose upper end is below T is
// out. The others are the candidates; rescoring them in float32 gives the float32 list, bit for
// bit.
//
// The work is cut as in fusion_topk. In registers, a tile of s' is compared with T less the largest
// bound in the panel, one number a user; the few that pass are tested with their own bound. Runs
// share T as fusion_topk's share thresholds, and what is left at the end is exactly the set of
// items with s' + b >= the final T: it does not depend on threads. Users of whom over 1 % of the
// items survive are given up: reading everything in float32 is cheaper then. Bound: 2 U P D
// operations on bytes or pairs; for few users, reading the panels once.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/admission.h"
#include "core/quantize.h"
#include "core/shared_top_k.h"
#include "cpu/kernels.h"
#include "cpu/scratch.h"
#include "cpu/select.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kUserBytes = 256 * 1024;  // packed users of a task
constexpr std::int64_t kLeastItems = 4096;       // items worth a task
constexpr std::int64_t kUsersPerTask = 16;       // of packing
constexpr std::int64_t kChunkPanels = 32;        // between two looks at what other runs found
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What of a user's items is still in, in a worker's run: bounds and indices, column by column.
class CandidateList {
 public:
  std::int64_t size() const { return static_cast<std::int64_t>(index_.size()); }
  const float* lower() const { return lower_.data(); }
  const float* upper() const { return upper_.data(); }
  const std::int64_t* index() const { return index_.data(); }

  void push(float lower, float upper, std::int64_t index) {
    lower_.push_back(lower);
    upper_.push_back(upper);
    index_.push_back(index);
  }
  // Drops all whose upper end is not above.
  void keep_above(float floor) {
    std::size_t kept = 0;
    vectors_above(upper(), size(), floor, [&](std::int64_t first, std::uint32_t mask) {
      for (; mask != 0; mask &= mask - 1) {
        const auto i = static_cast<std::size_t>(first + std::countr_zero(mask));
        lower_[kept] = lower_[i];
        upper_[kept] = upper_[i];
        index_[kept++] = index_[i];
      }
    });
    lower_.resize(kept);
    upper_.resize(kept);
    index_.resize(kept);
  }
  void clear() {
    lower_.clear();
    upper_.clear();
    index_.clear();
  }

 private:
  std::vector<float> lower_, upper_;
  std::vector<std::int64_t> index_;
};

// What a task found, user after user, each in ascending order of the items.
struct Found {
  std::vector<float> upper;
  std::vector<std::int64_t> index;
  std::vector<std::size_t> ends;  // of each user's part

  std::size_t begin(std::int64_t at) const {
    return at == 0 ? 0 : ends[static_cast<std::size_t>(at - 1)];
  }
  std::size_t end(std::int64_t at) const { return ends[static_cast<std::size_t>(at)]; }
};

// All users, reduced once a call; what a row of a tile needs stands by column, side by side.
template <class E>
struct Users {
  Users(std::int64_t rows, std::int64_t words)
      : padded(round_up(rows, Tile<E>::kHeight)),
        panels(static_cast<std::size_t>(padded * words * Tile<E>::kGroup)),
        step(padded, 0.0F),
        norm(padded, 0.0F),
        error(padded, 0.0F),
        offset(padded, 0) {}

  std::int64_t padded;
  std::vector<typename Dot<E>::Left> panels;
  std::vector<float> step, norm, error;  // times the user's scale; error holds the rounding too
  std::vector<std::int32_t> offset;      // what storing items plus 128 adds to a sum, negated
};

template <class E>
class Search {
 public:
  Search(const PackedCandidatesArgs& args, const Executor& executor)
      : args_(args),
        words_(ceil_div(args.user.columns, kGroup)),
        kept_(std::min(args.k, args.count)),
        limit_(std::max(args.count / 100, 4 * kept_ + 256)),
        admitted_(args.allowed, args.exclude),
        block_users_(rows_per_block<std::int32_t>(words_, kUserBytes, kHeight, 4096)),
        blocks_(ceil_div(args.user.rows, block_users_)),
        runs_(count_runs(blocks_, args.count, kLeastItems)),
        run_items_(round_up(ceil_div(args.count, runs_), kPanelRows)),
        users_(args.user.rows, words_),
        floors_(args.user.rows, kept_),
        found_(static_cast<std::size_t>(tasks())),
        given_up_(static_cast<std::size_t>(args.user.rows)),
        workers_(static_cast<std::size_t>(executor.workers())) {
    executor.run(ceil_div(args.user.rows, kUsersPerTask), [&](std::int64_t task, int) {
      const std::int64_t end = std::min(args.user.rows, (task + 1) * kUsersPerTask);
      for (std::int64_t u = task * kUsersPerTask; u < end; ++u) pack_user(u);
    });
  }

  std::int64_t tasks() const { return blocks_ * runs_; }

  void run(std::int64_t task, int worker) {
    const std::int64_t run = task % runs_, u0 = task / runs_ * block_users_;
    const std::int64_t u1 = std::min(args_.user.rows, u0 + block_users_);
    const std::int64_t p1 = std::min(args_.count, (run + 1) * run_items_);
    Block block(*this, u0, u1, workers_[static_cast<std::size_t>(worker)]);
    for (std::int64_t p = run * run_items_; p < p1; p += kChunkPanels * kPanelRows) {
      for (std::int64_t u = u0; u < u1; ++u) block.raise(u - u0, floors_.cutoff(u));
      const std::int64_t end = std::min(p1, p + kChunkPanels * kPanelRows);
      for (std::int64_t at = p; at < end; at += kWidth) score_panel(block, at);
    }
    for (std::int64_t u = u0; u < u1; ++u)
      hand_in(block, u, found_[static_cast<std::size_t>(task)]);
  }

  // When all tasks ran: what is left of every user, in ascending order.
  CandidateLists finish(const Executor& executor) {
    const std::int64_t users = args_.user.rows;
    CandidateLists lists;
    lists.overflowed.resize(static_cast<std::size_t>(users));
    lists.offsets.resize(static_cast<std::size_t>(users + 1));
    executor.run(users, [&](std::int64_t u, int) {
      std::int64_t size = 0;
      for_each_found(u, [&](std::int64_t) { ++size; });
      const bool over = gave_up(u) || size > limit_;
      lists.overflowed[static_cast<std::size_t>(u)] = over;
      lists.offsets[static_cast<std::size_t>(u + 1)] = over ? 0 : size;
    });
    std::partial_sum(lists.offsets.begin(), lists.offsets.end(), lists.offsets.begin());
    lists.indices.resize(static_cast<std::size_t>(lists.offsets.back()));
    executor.run(users, [&](std::int64_t u, int) {
      if (lists.overflowed[static_cast<std::size_t>(u)]) return;
      std::int64_t* out = lists.indices.data() + lists.offsets[static_cast<std::size_t>(u)];
      for_each_found(u, [&](std::int64_t index) { *out++ = index; });
    });
    return lists;
  }

 private:
  using T = Tile<E>;
  static constexpr int kHeight = T::kHeight, kWidth = T::kWidth, kGroup = T::kGroup;

  // A worker's lists, kept between tasks for their memory.
  struct Worker {
    std::vector<CandidateList> lists;
    std::vector<Scored<float>> lowers;
  };

  // A block of users in one task; `at` counts from its first.
  struct Block {
    Block(Search& search, std::int64_t begin, std::int64_t end, Worker& of)
        : u0(begin),
          u1(end),
          floor(static_cast<std::size_t>(round_up(end - begin, kHeight)), kInfinity),
          full(static_cast<std::size_t>(end - begin), first_size(search.kept_)),
          worker(of) {
      if (worker.lists.size() < full.size()) worker.lists.resize(full.size());
      for (CandidateList& list : worker.lists) list.clear();
      for (std::int64_t u = begin; u < end; ++u) {
        if (!search.gave_up(u)) floor[static_cast<std::size_t>(u - begin)] = -kInfinity;
      }
    }

    static std::int64_t first_size(std::int64_t kept) { return 2 * kept + 128; }

    void raise(std::int64_t at, float to) {
      floor[static_cast<std::size_t>(at)] = std::max(floor[static_cast<std::size_t>(at)], to);
    }

    std::int64_t u0, u1;
    std::vector<float> floor;        // just below T; +inf: nothing of this row is wanted
    std::vector<std::int64_t> full;  // the length at which a list is thinned out
    Worker& worker;
  };

  bool gave_up(std::int64_t u) const {
    return given_up_[static_cast<std::size_t>(u)].load(std::memory_order_relaxed);
  }

  void give_up(Block& block, std::int64_t at) {
    given_up_[static_cast<std::size_t>(block.u0 + at)].store(true, std::memory_order_relaxed);
    block.floor[static_cast<std::size_t>(at)] = kInfinity;
    block.worker.lists[static_cast<std::size_t>(at)].clear();
  }

  void pack_user(std::int64_t u) {
    const std::int64_t depth = args_.user.columns;
    const auto i = static_cast<std::size_t>(u);
    const float* row = args_.user.template at<float>(0, u, 0);
    const auto get = [&](std::int64_t d) { return row[d * args_.user.column_stride]; };
    auto* out = users_.panels.data() + u / kHeight * kHeight * words_ * kGroup;
    const auto place = [&](std::int64_t d) {
      return (d / kGroup * kHeight + u % kHeight) * kGroup + d % kGroup;
    };
    Reduction r;
    double rounding = kernel_rounding(depth);
    if constexpr (kGroup == 4) {
      std::int32_t sum = 0;
      r = to_int8(get, depth, [&](std::int64_t d, std::int8_t q) {
        out[place(d)] = q;
        sum += q;
      });
      users_.offset[i] = -128 * sum;
    } else {
      r = to_bfloat16(get, depth, [&](std::int64_t d, bfloat16 x) { out[place(d)] = x; });
      rounding *= 3;  // the sums over bfloat16 are rounded too, two products at a time
    }
    const float scale = args_.user_scale == nullptr ? 1.0F : args_.user_scale[u];
    const double factor = std::abs(static_cast<double>(scale));
    if (!r.bounded(scale)) {
      given_up_[i].store(true, std::memory_order_relaxed);
      return;
    }
    users_.step[i] = r.step * scale;
    users_.norm[i] = rounded_up(r.norm * factor);
    users_.error[i] = rounded_up((r.residual + rounding * r.norm) * factor);
  }

  // The columns of one tile: 32 items on the widest instruction set.
  struct Columns {
    Columns(const PackedCandidatesArgs& args, std::int64_t first) : p(first) {
      const float* stats = args.stats + p / kPanelRows * 3 * kPanelRows + p % kPanelRows;
      step = stats;
      residual = stats + kPanelRows;
      norm = stats + 2 * kPanelRows;
      const auto count = static_cast<int>(std::min<std::int64_t>(kWidth, args.count - p));
      valid = count == 32 ? ~0U : (1U << count) - 1;
      Vec<float> r = Vec<float>::load(residual), n = Vec<float>::load(norm);
      for (int j = 1; j < T::kVectors; ++j) {
        r = maximum(r, Vec<float>::load(residual + j * Vec<float>::kSize));
        n = maximum(n, Vec<float>::load(norm + j * Vec<float>::kSize));
      }
      most_residual = largest(r);
      most_norm = largest(n);
    }
    std::int64_t p;
    const float *step, *residual, *norm;
    float most_residual, most_norm;
    std::uint32_t valid;  // bit c: column c is an item, not padding
  };

  void score_panel(Block& block, std::int64_t p) {
    if (p >= args_.count) return;
    const Columns columns(args_, p);
    const auto* panel = static_cast<const typename Dot<E>::Right*>(args_.panels) +
                        (p / kPanelRows * kPanelRows * words_ + p % kPanelRows) * kGroup;
    const RightSide<E> items{panel, kPanelRows * kGroup};
    for (std::int64_t at = 0; at < block.u1 - block.u0; at += kHeight) {
      const auto rows = static_cast<int>(std::min<std::int64_t>(kHeight, block.u1 - block.u0 - at));
      score_tile(block, columns, items, at, rows);
    }
  }

  // Approximate scores of a row of the tile, still without the bound.
  static Vec<float> approximate(Vec<float> sum, std::int32_t) { return sum; }
  static Vec<float> approximate(Vec<std::int32_t> sum, std::int32_t offset) {
    return to_float(sum + Vec<std::int32_t>::broadcast(offset));
  }

  void score_tile(Block& block, const Columns& columns, const RightSide<E>& items, std::int64_t at,
                  int rows) {
    using V = Vec<float>;
    const std::int64_t u = block.u0 + at;
    float cutoffs[kHeight];
    for (int r = 0; r < kHeight; ++r) {
      const auto i = static_cast<std::size_t>(u + r);
      cutoffs[r] = block.floor[static_cast<std::size_t>(at + r)] -
                   users_.norm[i] * columns.most_residual - users_.error[i] * columns.most_norm;
    }
    const auto score = [&](typename T::V sum, int r, int j) {
      const auto i = static_cast<std::size_t>(u + r);
      return approximate(sum, users_.offset[i]) * V::load(columns.step + j * V::kSize) *
             V::broadcast(users_.step[i]);
    };
    const auto epilogue = [&]<int kRows>(typename T::V(&sum)[kRows][T::kVectors]) {
      std::uint32_t passed[kRows], any = 0;
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        passed[r] = 0;
        for (int j = 0; j < T::kVectors; ++j) {
          const std::uint32_t bits = greater(score(sum[r][j], r, j), V::broadcast(cutoffs[r]));
          passed[r] |= bits << (j * V::kSize);
        }
        any |= passed[r];
      }
      if ((any & columns.valid) == 0) [[likely]]
        return;
      // Computed again: keeping both sums and scores would not fit the registers.
      alignas(64) float tile[kRows * kWidth];
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        for (int j = 0; j < T::kVectors; ++j) {
          score(sum[r][j], r, j).store(tile + r * kWidth + j * V::kSize);
        }
      }
      for (int r = 0; r < std::min(kRows, rows); ++r) {
        const std::uint32_t wanted = passed[r] & columns.valid;
        if (wanted != 0) collect(block, columns, at + r, wanted, tile + r * kWidth);
      }
    };
    const PackedLeft<E> left{users_.panels.data() + u * words_ * kGroup};
    multiply<E>(left, items, words_, rows, epilogue);
  }

  [[gnu::noinline]] void collect(Block& block, const Columns& columns, std::int64_t at,
                                 std::uint32_t passed, const float* scores) {
    const auto i = static_cast<std::size_t>(at);
    const auto of = static_cast<std::size_t>(block.u0 + at);
    CandidateList& list = block.worker.lists[i];
    for (; passed != 0; passed &= passed - 1) {
      const int c = __builtin_ctz(passed);
      const float bound =
          users_.norm[of] * columns.residual[c] + users_.error[of] * columns.norm[c];
      const float upper = scores[c] + bound;
      if (!(upper > block.floor[i]) || !admitted_(block.u0 + at, columns.p + c)) continue;
      list.push(scores[c] - bound, upper, columns.p + c);
      if (list.size() >= block.full[i]) thin_out(block, at);
    }
  }

  // Raises the floor by what the list knows and drops what is below it.
  void thin_out(Block& block, std::int64_t at) {
    const auto i = static_cast<std::size_t>(at);
    const CandidateList& list = block.worker.lists[i];
    if (list.size() >= kept_) {
      // kept_ lower ends are above the cut: whatever is not, is below the kept_-th best.
      block.raise(at, cut_largest(list.lower(), list.size(), kept_).low);
    }
    drop_below_floor(block, at);
    block.full[i] = std::max(Block::first_size(kept_), 2 * list.size());
  }

  void drop_below_floor(Block& block, std::int64_t at) {
    const auto i = static_cast<std::size_t>(at);
    CandidateList& list = block.worker.lists[i];
    list.keep_above(block.floor[i]);
    if (list.size() > limit_) give_up(block, at);
  }

  // What is above the floor of all runs raises it; whatever is below it then is dropped.
  void hand_in(Block& block, std::int64_t u, Found& out) {
    const std::int64_t at = u - block.u0;
    const CandidateList& list = block.worker.lists[static_cast<std::size_t>(at)];
    std::vector<Scored<float>>& lowers = block.worker.lowers;
    lowers.clear();
    const float known = floors_.cutoff(u);
    for_each_largest(list.lower(), list.size(), kept_, [&](std::int64_t i) {
      if (list.lower()[i] > known) lowers.push_back({list.lower()[i], list.index()[i]});
    });
    floors_.merge(u, lowers.data(), static_cast<std::int64_t>(lowers.size()));
    block.raise(at, floors_.cutoff(u));
    drop_below_floor(block, at);
    out.upper.insert(out.upper.end(), list.upper(), list.upper() + list.size());
    out.index.insert(out.index.end(), list.index(), list.index() + list.size());
    out.ends.push_back(out.index.size());
  }

  // Calls f(item) for what the final floor of a user does not rule out.
  template <class F>
  void for_each_found(std::int64_t u, F&& f) const {
    const float floor = floors_.cutoff(u);
    const std::int64_t block = u / block_users_, at = u % block_users_;
    for (std::int64_t run = 0; run < runs_; ++run) {
      const Found& found = found_[static_cast<std::size_t>(block * runs_ + run)];
      for (std::size_t i = found.begin(at); i < found.end(at); ++i) {
        if (found.upper[i] > floor) f(found.index[i]);
      }
    }
  }

  const PackedCandidatesArgs& args_;
  const std::int64_t words_, kept_, limit_;
  const Admission admitted_;
  const std::int64_t block_users_, blocks_, runs_, run_items_;
  Users<E> users_;
  SharedTopK<float> floors_;  // of the lower ends
  std::vector<Found> found_;  // [tasks]
  std::vector<std::atomic<bool>> given_up_;
  std::vector<Worker> workers_;
};

template <class E>
CandidateLists search(const PackedCandidatesArgs& args, const Executor& executor) {
  Search<E> search(args, executor);
  executor.run(search.tasks(), [&](std::int64_t task, int worker) { search.run(task, worker); });
  return search.finish(executor);
}

}  // namespace

CandidateLists packed_candidates(const PackedCandidatesArgs& args, const Executor& executor) {
  check_ragged(args.exclude, args.count, "exclude");
  if (args.count == 0 || args.user.rows == 0) {
    CandidateLists lists;
    lists.offsets.assign(static_cast<std::size_t>(args.user.rows + 1), 0);
    lists.overflowed.assign(static_cast<std::size_t>(args.user.rows), 0);
    return lists;
  }
  return args.packing == Packing::int8 ? search<std::int8_t>(args, executor)
                                       : search<bfloat16>(args, executor);
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
