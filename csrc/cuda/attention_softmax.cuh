// The softmax of attention_fusion, and its dropout: one lane a row of scores in shared memory.
#pragma once

#include <cfloat>
#include <cstdint>

#include "core/philox.h"
#include "cuda/attention_unit.cuh"

namespace fusionops::cuda {

// In place, over the tokens present: zeros elsewhere, and where nothing but -inf is. Returns the
// log-sum-exp, 0 where there is none.
__device__ inline float softmax_row(float* row, int tokens, unsigned present) {
  float peak = -FLT_MAX;  // not -inf: -inf less that would be NaN
  for (int m = 0; m < tokens; ++m) {
    if (has(present, m)) peak = fmaxf(peak, row[m]);
  }
  float total = 0;
  for (int m = 0; m < tokens; ++m) {
    const float power = has(present, m) ? expf(row[m] - peak) : 0;
    row[m] = power;
    total += power;
  }
  const float inverse = total == 0 ? 0 : 1 / total;  // NaN stays
  for (int m = 0; m < tokens; ++m) row[m] *= inverse;
  return total == 0 ? 0 : peak + logf(total);
}

// What a dropout multiplies weights by: asked for one after another, it draws four at a time.
class DropoutWords {
 public:
  __device__ DropoutWords(const DropoutRule& rule, const std::int64_t* seed)
      : rule_(rule), seed_(seed == nullptr ? 0 : static_cast<std::uint64_t>(*seed)) {}

  // Of the weight with a number, in row-major order of all weights.
  __device__ float factor(std::int64_t number) {
    const auto counter = static_cast<std::uint64_t>(number) / 4;
    if (counter != counter_) draw(counter);
    const int place = static_cast<int>(number % 4);
    const std::uint32_t low = place == 0 ? words_[0] : words_[1];
    const std::uint32_t high = place == 2 ? words_[2] : words_[3];
    return rule_.keeps(place < 2 ? low : high) ? static_cast<float>(rule_.factor) : 0;
  }

 private:
  __device__ void draw(std::uint64_t counter) {
    counter_ = counter;
    words_[0] = static_cast<std::uint32_t>(counter);
    words_[1] = static_cast<std::uint32_t>(counter >> 32);
    words_[2] = words_[3] = 0;
    PhiloxKey key(seed_);
    for (int round = 0; round < kPhiloxRounds; ++round, key.next()) {
      philox_round(key, words_[0], words_[1], words_[2], words_[3]);
    }
  }

  const DropoutRule& rule_;
  const std::uint64_t seed_;
  std::uint64_t counter_ = ~std::uint64_t{0};  // of no weight
  std::uint32_t words_[4] = {};
};

}  // namespace fusionops::cuda
