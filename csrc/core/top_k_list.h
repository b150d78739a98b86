// The k best scores seen so far, and the rule that breaks ties.
//
// The order is total: score descending, then index ascending. So the k best of a set do not depend
// on how it was cut up, and lists of parts can be merged in any way.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace fusionops {

template <class T>
struct Scored {
  T score;
  std::int64_t index;

  // Whether this one stands before the other in a list.
  bool operator<(const Scored& other) const {
    return score > other.score || (score == other.score && index < other.index);
  }
};

// Entries wait in memory that the caller owns until it is full; then all but the k best are
// dropped, and the k-th becomes the threshold: O(1) amortised an entry, for every k.
template <class T>
class TopKList {
 public:
  static constexpr std::int64_t capacity(std::int64_t k) {
    return k + std::max<std::int64_t>(k, 64);
  }

  TopKList() = default;
  TopKList(Scored<T>* storage, std::int64_t k) : entries_(storage), k_(k) {}

  // A score at or below it can't enter, provided that indices arrive in ascending order.
  // NaN and -inf compare false against the initial one, so they never enter.
  T threshold() const { return threshold_; }

  void push(T score, std::int64_t index) {
    entries_[size_++] = {score, index};
    if (size_ == capacity(k_)) shrink();
  }

  // Drops all but the k best; returns how many there are, in no order.
  std::int64_t trim() {
    if (size_ > k_) shrink();
    return size_;
  }

  // Sorts what is kept and returns how many there are, k at most.
  std::int64_t finish() {
    std::sort(entries_, entries_ + trim());
    return size_;
  }

  const Scored<T>* entries() const { return entries_; }

 private:
  void shrink() {
    std::nth_element(entries_, entries_ + (k_ - 1), entries_ + size_);
    threshold_ = entries_[k_ - 1].score;
    size_ = k_;
  }

  Scored<T>* entries_ = nullptr;
  std::int64_t k_ = 0, size_ = 0;
  T threshold_ = -std::numeric_limits<T>::infinity();
};

}  // namespace fusionops
