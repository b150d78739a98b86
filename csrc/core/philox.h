// Philox4x32-10: the random numbers of dropout, by their number alone.
//
// Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3". Word e of a
// seed is the (e % 4)-th of the four that counter e / 4 gives, so any part of a mask can be made
// anywhere: in the backward pass, on another thread, on another device.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.h"

namespace fusionops {

inline constexpr int kPhiloxRounds = 10;

struct PhiloxKey {
  FUSIONOPS_HOST_DEVICE explicit PhiloxKey(std::uint64_t seed)
      : first(static_cast<std::uint32_t>(seed)), second(static_cast<std::uint32_t>(seed >> 32)) {}
  FUSIONOPS_HOST_DEVICE void next() {
    first += 0x9E3779B9U;
    second += 0xBB67AE85U;
  }
  std::uint32_t first, second;
};

FUSIONOPS_HOST_DEVICE inline void philox_round(const PhiloxKey& key, std::uint32_t& s0,
                                               std::uint32_t& s1, std::uint32_t& s2,
                                               std::uint32_t& s3) {
  const std::uint64_t even = std::uint64_t{0xD2511F53U} * s0;
  const std::uint64_t odd = std::uint64_t{0xCD9E8D57U} * s2;
  s0 = static_cast<std::uint32_t>(odd >> 32) ^ s1 ^ key.first;
  s2 = static_cast<std::uint32_t>(even >> 32) ^ s3 ^ key.second;
  s1 = static_cast<std::uint32_t>(odd);
  s3 = static_cast<std::uint32_t>(even);
}

// What a dropout with some probability does with a word, and what it multiplies those by that stay.
struct DropoutRule {
  explicit DropoutRule(double probability)
      : threshold(static_cast<std::uint32_t>(std::nearbyint(probability * (1 << 24)))),
        factor(probability < 1 ? 1 / (1 - probability) : 0) {}
  FUSIONOPS_HOST_DEVICE bool keeps(std::uint32_t word) const { return word >> 8 >= threshold; }

  std::uint32_t threshold;
  double factor;
};

}  // namespace fusionops
