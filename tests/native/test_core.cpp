// csrc/core: half conversions, the tie rule and lists that runs share, ragged checks.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "check.h"
#include "core/half.h"
#include "core/ragged.h"
#include "core/shared_top_k.h"

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

TEST(runs_merge_into_one_order) {
  SharedTopK<float> best(2, 3);
  Scored<float> first[] = {{1, 5}, {3, 9}, {2, 7}}, second[] = {{3, 2}, {1, 1}}, third[] = {{2, 8}};
  CHECK(!(best.cutoff(0) > -std::numeric_limits<float>::infinity()));
  best.merge(0, first, 3);
  CHECK(best.cutoff(0) < 1 && best.cutoff(0) > 0.99F);  // an equal score may have a lower index
  best.merge(0, second, 2);
  best.merge(0, third, 1);
  CHECK(best.size(0) == 3 && best.size(1) == 0);
  CHECK(best.row(0)[0].index == 2 && best.row(0)[1].index == 9 && best.row(0)[2].index == 7);
}

TEST(a_cutoff_is_never_denormal) {
  // torch.set_flush_denormal(True) makes the kernels take denormals for zero: a cutoff just below a
  // score of zero would then rule out ties with lower indices.
  constexpr float kTiny = std::numeric_limits<float>::min();
  for (const float score : {0.0F, -0.0F, 1e-45F, -1e-45F, kTiny}) {
    SharedTopK<float> best(1, 1);
    Scored<float> entry[] = {{score, 3}};
    best.merge(0, entry, 1);
    CHECK(best.cutoff(0) == -kTiny);
  }
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
