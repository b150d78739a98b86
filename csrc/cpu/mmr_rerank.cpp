// mmr_rerank: k of every user's candidates, one after the other, by score and by difference.
//
// A task is a run of users. A user's open candidates are packed, [D][lanes] with one vector's lanes
// of candidates to a panel: products with a chosen vector, gains and their largest are vectors, and
// a product's additions run in one order wherever its candidate stands. What is masked, or has no
// score, is never read.
//
// A gain can only fall as more are chosen, because the largest cosine can only rise. So a panel's
// largest gain, as last computed, bounds it: a panel is brought up to date only where that bound
// reaches the best gain found, and then for all choices that it missed. The list is that of the
// full loop, which costs k C D products; in order of score, as candidates mostly come, a few panels
// see any. One read of the vectors is the bound then, and the products from L2 where all are close.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kElementsPerTask = 1 << 16;

// The open candidates of one user, in ascending order of place.
template <class T>
class Pool {
 public:
  Pool(const MmrRerankArgs& args, T* numbers, std::int64_t* integers)
      : args_(args), depth_(args.vectors.columns) {
    const std::int64_t lanes = round_up(args.vectors.rows, kLanes);
    for (T** part : {&relevance_, &closest_, &gain_, &inverse_, &bound_}) {
      *part = numbers;
      numbers += lanes;
    }
    panels_ = numbers;
    chosen_ = panels_ + lanes * depth_;
    place_ = integers;
    age_ = integers + args.vectors.rows;
  }

  // How many numbers and integers the constructor wants.
  static std::int64_t numbers(const MmrRerankArgs& args) {
    const std::int64_t longest = std::min(args.k, args.vectors.rows);
    const std::int64_t lanes = round_up(args.vectors.rows, kLanes);
    return (5 + args.vectors.columns) * lanes + longest * args.vectors.columns;
  }
  static std::int64_t integers(const MmrRerankArgs& args) { return 2 * args.vectors.rows; }

  void choose(std::int64_t u) {
    std::int64_t* out = args_.places + u * args_.k;
    const std::int64_t most = std::min(args_.k, open(u));
    std::int64_t found = 0;
    assume_closest(0);  // nothing is close to nothing
    for (; found < most; ++found) {
      const T best = best_gain(found);
      if (best == -kInfinity) break;
      const std::int64_t winner = first_with(best);
      out[found] = place_[winner];
      take(winner, found);
      if (found == 0) assume_closest(-1);  // now a cosine, and that is the least it can be
    }
    std::fill(out + found, out + args_.k, -1);
  }

 private:
  using V = Vec<T>;
  static constexpr std::int64_t kLanes = V::kSize;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();
  static constexpr T kLargest = std::numeric_limits<T>::max();
  // Sums of squares from here on have full precision.
  static constexpr T kTiny = std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon();

  // Finds the candidates that have a score and packs their vectors; returns how many there are.
  std::int64_t open(std::int64_t u) {
    const auto trade_off = static_cast<T>(args_.trade_off);
    std::int64_t count = 0;
    with_type(args_.scores.dtype, [&]<class Source>(Source*) {
      for (std::int64_t c = 0; c < args_.scores.columns; ++c) {
        if (args_.mask.present() && !args_.mask(u, c)) continue;
        const T score = static_cast<T>(widen(*args_.scores.template at<Source>(0, u, c)));
        if (!(score > -kInfinity)) continue;  // NaN either
        relevance_[count] = trade_off > 0 ? trade_off * score : T(0);
        place_[count++] = c;
      }
    });
    panel_count_ = ceil_div(count, kLanes);
    std::fill(relevance_ + count, relevance_ + panel_count_ * kLanes, -kInfinity);
    with_source<T>(args_.vectors.dtype, [&]<class Source>(Source*) {
      for (std::int64_t p = 0; p < panel_count_; ++p) {
        const std::int64_t* places = place_ + p * kLanes;
        const auto row = [&](int r) { return args_.vectors.template at<Source>(u, places[r], 0); };
        const auto rows = static_cast<int>(std::min(kLanes, count - p * kLanes));
        pack_panel<V::kSize, T, Source>(row, args_.vectors.column_stride, rows, depth_, panel(p));
        measure(p);
      }
    });
    return count;
  }

  T* panel(std::int64_t p) const { return panels_ + p * kLanes * depth_; }

  // The inverse lengths of a panel's vectors. One with NaN or Inf is out.
  void measure(std::int64_t p) {
    T squares[kLanes];
    sum_squares(p, squares);
    bool rescaled = false;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      if (!(squares[lane] >= kTiny && squares[lane] <= kLargest)) rescaled |= rescale(p, lane);
    }
    if (rescaled) sum_squares(p, squares);
    T *inverse = inverse_ + p * kLanes, *relevance = relevance_ + p * kLanes;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const bool finite = squares[lane] <= kLargest;
      relevance[lane] = finite ? relevance[lane] : -kInfinity;
      inverse[lane] = finite && squares[lane] > 0 ? 1 / std::sqrt(squares[lane]) : T(0);
    }
  }

  void sum_squares(std::int64_t p, T* out) const {
    const T* x = panel(p);
    products(x, [&](std::int64_t d) { return V::load(x + d * kLanes); }).store(out);
  }

  // Brings a vector whose squares leave the range of T to entries of at most 1, by a power of two.
  bool rescale(std::int64_t p, std::int64_t lane) {
    T* x = panel(p) + lane;
    T most = 0;
    for (std::int64_t d = 0; d < depth_; ++d) most = std::max(most, std::abs(x[d * kLanes]));
    if (!(most > 0 && most <= kLargest)) return false;
    const int exponent = std::ilogb(most) + 1;
    for (std::int64_t d = 0; d < depth_; ++d) x[d * kLanes] = std::ldexp(x[d * kLanes], -exponent);
    return true;
  }

  // sum_d x[d] * other(d) of every lane: kChains interleaved chains, cut at 256 roundings.
  template <class Other>
  V products(const T* x, Other&& other) const {
    constexpr int kChains = 4;
    constexpr std::int64_t kBlock = 256 * kChains;
    V total = V::broadcast(0);
    for (std::int64_t d = 0; d < depth_;) {
      const std::int64_t end = std::min(depth_, d + kBlock);
      V sums[kChains];
      for (V& sum : sums) sum = V::broadcast(0);
      const auto step = [&](V& sum) {
        sum = fused_multiply_add(V::load(x + d * kLanes), other(d), sum);
        ++d;
      };
      while (d + kChains <= end) {
        for (V& sum : sums) step(sum);
      }
      for (int chain = 0; d < end; ++chain) step(sums[chain]);
      total = total + ((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
    return total;
  }

  void assume_closest(T cosine) {
    std::fill(closest_, closest_ + panel_count_ * kLanes, cosine);
    std::fill(age_, age_ + panel_count_, 0);
    for (std::int64_t p = 0; p < panel_count_; ++p) refresh(p, 0);
  }

  // Brings a panel's gains up to the first `count` chosen.
  void refresh(std::int64_t p, std::int64_t count) {
    const V inverse = V::load(inverse_ + p * kLanes);
    V closest = V::load(closest_ + p * kLanes);
    for (; age_[p] < count; ++age_[p]) {
      const T* unit = chosen_ + age_[p] * depth_;
      const V dot = products(panel(p), [&](std::int64_t d) { return V::broadcast(unit[d]); });
      closest = maximum(dot * inverse, closest);  // in this order NaN, of one that is out, is not
    }
    closest.store(closest_ + p * kLanes);
    const V penalty = V::broadcast(static_cast<T>(1 - args_.trade_off)) * closest;
    const V gain = V::load(relevance_ + p * kLanes) - penalty;
    gain.store(gain_ + p * kLanes);
    bound_[p] = largest(gain);
  }

  // The largest gain. All panels that reach it are up to date then.
  T best_gain(std::int64_t count) {
    const std::int64_t likely = std::max_element(bound_, bound_ + panel_count_) - bound_;
    refresh(likely, count);
    T best = bound_[likely];
    for (std::int64_t p = 0; p < panel_count_; ++p) {
      if (bound_[p] < best || age_[p] == count) continue;
      refresh(p, count);
      best = std::max(best, bound_[p]);
    }
    return best;
  }

  std::int64_t first_with(T best) const {
    const std::int64_t p = std::find(bound_, bound_ + panel_count_, best) - bound_;
    const T* gain = gain_ + p * kLanes;
    return std::find(gain, gain + kLanes, best) - gain_;
  }

  // Candidate i is chosen number t: out of the pool, its unit vector among the chosen.
  void take(std::int64_t i, std::int64_t t) {
    const T* x = panel(i / kLanes) + i % kLanes;
    for (std::int64_t d = 0; d < depth_; ++d) {
      chosen_[t * depth_ + d] = x[d * kLanes] * inverse_[i];
    }
    relevance_[i] = -kInfinity;
    refresh(i / kLanes, t);
  }

  const MmrRerankArgs& args_;
  std::int64_t depth_, panel_count_ = 0;
  T *relevance_, *closest_, *gain_, *inverse_;  // [lanes]
  T* bound_;                                    // [panels]: the largest gain when last computed,
  std::int64_t* age_;                           // [panels]: and how many were chosen then
  T *panels_, *chosen_;                         // [panels][D][kLanes], [k][D]
  std::int64_t* place_;                         // of the candidates that are open
};

}  // namespace

void mmr_rerank(const MmrRerankArgs& args, const Executor& executor) {
  const std::int64_t users = args.vectors.batch;
  if (users == 0) return;
  const std::int64_t elements = std::max<std::int64_t>(1, args.vectors.rows * args.vectors.columns);
  const std::int64_t run = std::max<std::int64_t>(1, kElementsPerTask / elements);
  Scratch<std::int64_t> integers(executor.workers(), Pool<float>::integers(args));
  with_accumulator(args.vectors.dtype, [&]<class T>(T*) {
    Scratch<T> numbers(executor.workers(), Pool<T>::numbers(args));
    executor.run(ceil_div(users, run), [&](std::int64_t task, int worker) {
      Pool<T> pool(args, numbers.of(worker), integers.of(worker));
      const std::int64_t end = std::min(users, (task + 1) * run);
      for (std::int64_t u = task * run; u < end; ++u) pool.choose(u);
    });
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
