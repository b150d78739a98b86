// The k best of each row, gathered from lists that several workers fill at the same time.
//
// A worker walks a run of columns with lists of its own and hands each in at the end. What was
// handed in gives a threshold: no later entry below it can be among the k best. The order of
// entries is total, so the result does not depend on who hands in first.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "core/top_k_list.h"

namespace fusionops {

template <class T>
class SharedTopK {
 public:
  SharedTopK(std::int64_t rows, std::int64_t k)
      : k_(k),
        entries_(new Scored<T>[static_cast<std::size_t>(rows * capacity())]),
        sizes_(static_cast<std::size_t>(rows), 0),
        thresholds_(static_cast<std::size_t>(rows)) {
    for (auto& threshold : thresholds_) {
      threshold.store(-std::numeric_limits<T>::infinity(), std::memory_order_relaxed);
    }
  }

  // An entry with a score below it can't be among the k best; one that equals it can. -inf while
  // there are fewer than k.
  T threshold(std::int64_t row) const {
    return thresholds_[static_cast<std::size_t>(row)].load(std::memory_order_relaxed);
  }

  // Adds at most k entries, in any order.
  void merge(std::int64_t row, const Scored<T>* list, std::int64_t size) {
    if (size == 0) return;
    const std::lock_guard lock(mutexes_[row / kRowsPerMutex % kMutexes]);
    Scored<T>* entries = entries_.get() + row * capacity();
    std::int64_t& held = sizes_[static_cast<std::size_t>(row)];
    std::copy_n(list, size, entries + held);
    held += size;
    if (held < k_) return;
    std::nth_element(entries, entries + (k_ - 1), entries + held);
    held = k_;
    thresholds_[static_cast<std::size_t>(row)].store(entries[k_ - 1].score,
                                                     std::memory_order_relaxed);
  }

  // Sorts a row when all lists are in; returns how many entries it has.
  std::int64_t finish(std::int64_t row) {
    Scored<T>* entries = entries_.get() + row * capacity();
    const std::int64_t size = sizes_[static_cast<std::size_t>(row)];
    std::sort(entries, entries + size);
    return size;
  }

  const Scored<T>* row(std::int64_t row) const { return entries_.get() + row * capacity(); }

 private:
  // Rows of one mutex are neighbours: a worker hands in a block of them one after another.
  static constexpr std::int64_t kRowsPerMutex = 16, kMutexes = 64;

  std::int64_t capacity() const { return 2 * k_; }

  const std::int64_t k_;
  std::unique_ptr<Scored<T>[]> entries_;  // [rows, 2 k]: at most k held and k that come in
  std::vector<std::int64_t> sizes_;
  std::vector<std::atomic<T>> thresholds_;
  std::mutex mutexes_[kMutexes];
};

}  // namespace fusionops
