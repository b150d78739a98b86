// The k best of each row, gathered from lists that several workers fill at the same time.
//
// A worker walks a run of columns with lists of its own and hands each in at the end. What was
// handed in gives a cutoff: no later entry at or below it can be among the k best. The order of
// entries is total, so the result does not depend on who hands in first.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "core/scored.h"

namespace fusionops {

template <class T>
class SharedTopK {
 public:
  SharedTopK(std::int64_t rows, std::int64_t k)
      : k_(k),
        entries_(new Scored<T>[static_cast<std::size_t>(rows * capacity())]),
        sizes_(static_cast<std::size_t>(rows), 0),
        cutoffs_(static_cast<std::size_t>(rows)) {
    for (auto& cutoff : cutoffs_) cutoff.store(kLowest, std::memory_order_relaxed);
  }

  // An entry must have a score above it to be among the k best: the number just below the k-th, as
  // one that equals that can have a lower index. -inf while there are fewer than k.
  T cutoff(std::int64_t row) const {
    return cutoffs_[static_cast<std::size_t>(row)].load(std::memory_order_relaxed);
  }

  // Adds at most k entries, which it sorts. Those that the cutoff rules out need not be handed in.
  void merge(std::int64_t row, Scored<T>* list, std::int64_t size) {
    if (size == 0) return;
    Scored<T>* const end = list + size;
    std::sort(list, end);
    const std::lock_guard lock(mutexes_[row / kRowsPerMutex % kMutexes]);
    Scored<T>* const entries = entries_.get() + row * capacity();
    std::int64_t& held = sizes_[static_cast<std::size_t>(row)];
    const std::int64_t both = held + size;
    // From the back, where there is room, so that nothing is overwritten before it was read.
    const Scored<T>*mine = entries + held, *theirs = end;
    for (Scored<T>* to = entries + both; theirs != list;) {
      *--to = mine != entries && theirs[-1] < mine[-1] ? *--mine : *--theirs;
    }
    held = std::min(both, k_);
    if (held < k_) return;
    cutoffs_[static_cast<std::size_t>(row)].store(just_below(entries[k_ - 1].score),
                                                  std::memory_order_relaxed);
  }

  // The entries of a row, sorted, and how many there are.
  const Scored<T>* row(std::int64_t row) const { return entries_.get() + row * capacity(); }
  std::int64_t size(std::int64_t row) const { return sizes_[static_cast<std::size_t>(row)]; }

 private:
  // Rows of one mutex are neighbours: a worker hands in a block of them one after another.
  static constexpr std::int64_t kRowsPerMutex = 16, kMutexes = 64;
  static constexpr T kLowest = -std::numeric_limits<T>::infinity();

  // No denormal number: a processor that is set to take those for zero would see a tie as below.
  static T just_below(T x) {
    constexpr T kTiny = std::numeric_limits<T>::min();
    return x > -kTiny && x <= kTiny ? -kTiny : std::nextafter(x, kLowest);
  }

  std::int64_t capacity() const { return 2 * k_; }

  const std::int64_t k_;
  std::unique_ptr<Scored<T>[]> entries_;  // [rows, 2 k]: k held at most, and k that come in
  std::vector<std::int64_t> sizes_;
  std::vector<std::atomic<T>> cutoffs_;
  std::mutex mutexes_[kMutexes];
};

}  // namespace fusionops
