// The k best scores seen so far of one row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "core/scored.h"
#include "cpu/select.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

// Entries wait in memory that the caller owns until it is full; then all but the k best are
// dropped, and the k-th becomes the threshold: O(1) amortised an entry, for every k. Indices must
// arrive in ascending order.
template <class T>
class TopKList {
 public:
  static constexpr std::int64_t capacity(std::int64_t k) {
    return k + std::max<std::int64_t>(k, 64);
  }

  TopKList() = default;
  // Room for capacity(k) of each.
  TopKList(T* scores, std::int64_t* indices, std::int64_t k)
      : scores_(scores), indices_(indices), k_(k) {}

  // A score at or below it can't enter. NaN and -inf compare false against the initial one, so
  // they never enter.
  T threshold() const { return threshold_; }

  void push(T score, std::int64_t index) {
    scores_[size_] = score;
    indices_[size_++] = index;
    if (size_ == capacity(k_)) shrink();
  }

  // Writes what is kept, k at most, and is above `cutoff`, in no order; returns how many.
  std::int64_t take(T cutoff, Scored<T>* out) {
    if (size_ > k_) shrink();
    std::int64_t taken = 0;
    for (std::int64_t i = 0; i < size_; ++i) {
      if (scores_[i] > cutoff) out[taken++] = {scores_[i], indices_[i]};
    }
    return taken;
  }

 private:
  void shrink() {
    std::int64_t kept = 0;
    T least = std::numeric_limits<T>::infinity();
    for_each_largest(scores_, size_, k_, [&](std::int64_t i) {
      least = std::min(least, scores_[i]);
      indices_[kept] = indices_[i];
      scores_[kept++] = scores_[i];
    });
    size_ = kept;
    threshold_ = least;
  }

  T* scores_ = nullptr;
  std::int64_t* indices_ = nullptr;
  std::int64_t k_ = 0, size_ = 0;
  T threshold_ = -std::numeric_limits<T>::infinity();
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
