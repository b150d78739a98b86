// Philox4x32-10: the random numbers of dropout, by their number alone.
//
// Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3". Word e of a
// seed is the (e % 4)-th of the four that counter e / 4 gives, so any part of a mask can be made
// anywhere: in the backward pass, on another thread, on another device.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

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
  auto key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kPhiloxCounters; ++i) {
      const std::uint64_t even = std::uint64_t{0xD2511F53} * state[0][i];
      const std::uint64_t odd = std::uint64_t{0xCD9E8D57} * state[2][i];
      state[0][i] = static_cast<std::uint32_t>(odd >> 32) ^ state[1][i] ^ key0;
      state[2][i] = static_cast<std::uint32_t>(even >> 32) ^ state[3][i] ^ key1;
      state[1][i] = static_cast<std::uint32_t>(odd);
      state[3][i] = static_cast<std::uint32_t>(even);
    }
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  for (int i = 0; i < kPhiloxCounters; ++i) {
    for (int j = 0; j < 4; ++j) words[4 * i + j] = state[j][i];
  }
}

// Which weights a dropout keeps, and what it multiplies those by.
class Dropout {
 public:
  Dropout(double probability, std::int64_t seed)
      : seed_(static_cast<std::uint64_t>(seed)),
        threshold_(static_cast<std::uint32_t>(std::nearbyint(probability * (1 << 24)))),
        factor_(probability < 1 ? 1 / (1 - probability) : 0) {}

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
        factors[done + i] = words[skipped + i] >> 8 >= threshold_ ? static_cast<T>(factor_) : T(0);
      }
      done += some;
    }
  }

 private:
  std::uint64_t seed_;
  std::uint32_t threshold_;
  double factor_;
};

}  // namespace fusionops::cpu::FUSIONOPS_ISA
