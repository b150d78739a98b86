// csrc/cpu/select.h and top_k_list.h, as the portable vectors have them; the instruction sets' own
// are under the tests of fusion_topk and of the Catalog's kernels.
#define FUSIONOPS_ISA tests

#include "cpu/top_k_list.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "check.h"
#include "inputs.h"

using namespace fusionops;
using namespace fusionops::cpu::tests;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Lists {
  explicit Lists(std::int64_t k)
      : scores(static_cast<std::size_t>(TopKList<float>::capacity(k))),
        indices(scores.size()),
        list(scores.data(), indices.data(), k) {}
  std::vector<float> scores;
  std::vector<std::int64_t> indices;
  TopKList<float> list;
};

std::vector<std::int64_t> chosen(const std::vector<float>& x, std::int64_t k) {
  std::vector<std::int64_t> out;
  const auto size = static_cast<std::int64_t>(x.size());
  for_each_largest(x.data(), size, k, [&](std::int64_t i) { out.push_back(i); });
  return out;
}

std::vector<std::int64_t> expected(const std::vector<float>& x, std::int64_t k) {
  std::vector<Scored<float>> all;
  for (std::size_t i = 0; i < x.size(); ++i) all.push_back({x[i], static_cast<std::int64_t>(i)});
  std::sort(all.begin(), all.end());
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < k; ++i) out.push_back(all[static_cast<std::size_t>(i)].index);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

TEST(ordered_integers_follow_the_numbers) {
  const float numbers[] = {-kInfinity, -3e38F, -1.0F, -1e-45F, -0.0F,
                           0.0F,       1e-45F, 1.0F,  3e38F,   kInfinity};
  for (std::size_t i = 0; i < std::size(numbers); ++i) {
    CHECK(number<float>(ordered(numbers[i])) == numbers[i]);
    if (i > 0) CHECK(ordered(numbers[i - 1]) < ordered(numbers[i]));
  }
}

TEST(the_largest_are_chosen_at_every_size) {
  for (const std::int64_t size : {1, 2, 3, 4, 5, 31, 84, 127, 1000}) {
    auto x = fusionops::testing::random_floats(size, static_cast<unsigned>(size));
    for (const std::int64_t k : {1, 2, 3, 20, 84, 999}) {
      if (k <= size) CHECK(chosen(x, k) == expected(x, k));
    }
  }
}

TEST(of_equal_numbers_the_first_are_chosen) {
  std::vector<float> x(100);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 7 == 0 ? 2.0F : (i % 2 == 0 ? 0.0F : -0.0F);
  for (const std::int64_t k : {1, 14, 15, 16, 50, 99, 100}) CHECK(chosen(x, k) == expected(x, k));
  std::fill(x.begin(), x.end(), kInfinity);
  CHECK(chosen(x, 30) == expected(x, 30));
}

TEST(a_cut_below_minus_infinity_is_minus_infinity) {
  const float x[] = {1.0F, -kInfinity, 2.0F, -kInfinity, -kInfinity};
  CHECK(cut_largest(x, 5, 3).low == -kInfinity);
  CHECK(cut_largest(x, 5, 2).low < 1.0F);
}

TEST(ties_go_to_the_lower_index) {
  Lists lists(3);
  for (std::int64_t i = 0; i < 1000; ++i) {
    const float score = i % 7 == 0 ? 2.0F : 1.0F;
    if (score > lists.list.threshold()) lists.list.push(score, i);
  }
  Scored<float> taken[3];
  CHECK(lists.list.take(-kInfinity, taken) == 3);
  std::sort(taken, taken + 3);
  CHECK(taken[0].index == 0 && taken[1].index == 7 && taken[2].index == 14);
  CHECK(lists.list.take(2.0F, taken) == 0);
}

TEST(nan_and_minus_infinity_never_pass_the_threshold) {
  const TopKList<float> list;
  CHECK(!(std::numeric_limits<float>::quiet_NaN() > list.threshold()));
  CHECK(!(-kInfinity > list.threshold()));
}
