// The rule that breaks ties: score descending, then index ascending.
//
// The order is total, so the k best of a set do not depend on how it was cut up, and lists of parts
// can be merged in any way.
#pragma once

#include <cstdint>

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

}  // namespace fusionops
