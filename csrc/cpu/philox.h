// The words of core/philox.h many at a time, and the factors that a dropout makes of them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/philox.h"
#include "cpu/simd.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

inline constexpr int kPhiloxCounters = 16;  // made at once, side by side for the vectoriser

// The words of counters [first, first + kPhiloxCounters), in their order.
inline void philox_block(std::uint64_t seed, std::uint64_t first, std::uint32_t* words) {
  std::uint32_t state[4][kPhiloxCounters];
  for (int i = 0; i < kPhiloxCounters; ++i) {
    const std::uint64_t counter = first + static_cast<std::uint64_t>(i);
    state[0][i] = static_cast<std::uint32_t>(counter);
    state[1][i] = static_cast<std::uint32_t>(counter >> 32);
    state[2][i] = state[3][i] = 0;
  }
  PhiloxKey key(seed);
  for (int round = 0; round < kPhiloxRounds; ++round, key.next()) {
    for (int i = 0; i < kPhiloxCounters; ++i) {
      philox_round(key, state[0][i], state[1][i], state[2][i], state[3][i]);
    }
  }
  for (int i = 0; i < kPhiloxCounters; ++i) {
    for (int j = 0; j < 4; ++j) words[4 * i + j] = state[j][i];
  }
}

// Which weights a dropout keeps, and what it multiplies those by.
class Dropout {
 public:
  Dropout(double probability, std::int64_t seed)
      : seed_(static_cast<std::uint64_t>(seed)), rule_(probability) {}

  // factors[i] is 0 or 1 / (1 - p), for weights [begin, begin + count) in row-major order.
  template <class T>
  void factors(std::int64_t begin, std::int64_t count, T* factors) const {
    constexpr std::int64_t kWords = 4 * kPhiloxCounters;
    std::uint32_t words[kWords];
    for (std::int64_t done = 0; done < count;) {
      const std::int64_t at = begin + done, skipped = at % 4;
      philox_block(seed_, static_cast<std::uint64_t>(at / 4), words);
      const std::int64_t some = std::min(count - done, kWords - skipped);
      for (std::int64_t i = 0; i < some; ++i) {
        factors[done + i] = rule_.keeps(words[skipped + i]) ? static_cast<T>(rule_.factor) : T(0);
      }
      done += some;
    }
  }

 private:
  std::uint64_t seed_;
  DropoutRule rule_;
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
