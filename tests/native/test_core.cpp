// csrc/core: half conversions, the tie rule and the top-k list, ragged checks.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "check.h"
#include "core/half.h"
#include "core/ragged.h"
#include "core/top_k_list.h"

using namespace fusionops;

TEST(every_float16_survives_a_round_trip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float16 half{static_cast<std::uint16_t>(bits)};
    const float wide = to_float(half);
    if (std::isnan(wide)) {
      CHECK(std::isnan(to_float(to_float16(wide))));
    } else {
      CHECK(to_float16(wide).bits == half.bits);
    }
  }
}

TEST(every_bfloat16_survives_a_round_trip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const bfloat16 half{static_cast<std::uint16_t>(bits)};
    const float wide = to_float(half);
    if (std::isnan(wide)) {
      CHECK(std::isnan(to_float(to_bfloat16(wide))));
    } else {
      CHECK(to_bfloat16(wide).bits == half.bits);
    }
  }
}

TEST(half_rounding_is_to_nearest_even) {
  CHECK(to_float(to_float16(1.0F + 0x1p-11F)) == 1.0F);                // a tie: down to even
  CHECK(to_float(to_float16(1.0F + 0x3p-11F)) == 1.0F + 0x1p-9F);      // a tie: up to even
  CHECK(to_float(to_float16(1.0F + 0x1.01p-11F)) == 1.0F + 0x1p-10F);  // just above a tie
  CHECK(std::isinf(to_float(to_float16(65520.0F))));                   // rounds past the largest
  CHECK(to_float(to_float16(65519.0F)) == 65504.0F);
  CHECK(to_float(to_float16(0x1p-25F)) == 0.0F);  // a tie with zero
  CHECK(to_float(to_float16(0x1.8p-25F)) == 0x1p-24F);
  CHECK(to_float(to_bfloat16(1.0F + 0x1p-8F)) == 1.0F);
  CHECK(to_float(to_bfloat16(1.0F + 0x3p-8F)) == 1.0F + 0x1p-6F);
}

TEST(ties_go_to_the_lower_index) {
  constexpr std::int64_t k = 3;
  Scored<float> storage[TopKList<float>::capacity(k)];
  TopKList<float> list(storage, k);
  for (std::int64_t i = 0; i < 1000; ++i) {
    const float score = i % 7 == 0 ? 2.0F : 1.0F;
    if (score > list.threshold()) list.push(score, i);
  }
  CHECK(list.finish() == 3);
  CHECK(list.entries()[0].index == 0 && list.entries()[1].index == 7 &&
        list.entries()[2].index == 14);
}

TEST(nan_and_minus_infinity_never_pass_the_threshold) {
  const TopKList<float> list;
  CHECK(!(std::numeric_limits<float>::quiet_NaN() > list.threshold()));
  CHECK(!(-std::numeric_limits<float>::infinity() > list.threshold()));
}

TEST(ragged_lists_are_checked) {
  const auto refused = [](std::int64_t last_offset, std::int64_t index) {
    const std::int64_t offsets[] = {0, 1, last_offset}, indices[] = {0, index};
    try {
      check_ragged({offsets, indices, 2, 2}, 3, "exclude");
    } catch (const std::out_of_range&) {
      return true;
    }
    return false;
  };
  CHECK(!refused(2, 2));
  CHECK(refused(2, 3));
  CHECK(refused(2, -1));
  CHECK(refused(0, 1));
  CHECK(refused(3, 1));
}
