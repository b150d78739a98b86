// The Catalog's kernels: lists over reduced precision are the float32 kernel's, bit for bit, on
// vectors made to break a bound; and searches from many threads at once do not disturb each other.
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "inputs.h"

using namespace fusionops;
using namespace fusionops::testing;

namespace {

struct Lists {
  std::vector<float> scores;
  std::vector<std::int64_t> indices;
  bool operator==(const Lists& other) const {
    return indices == other.indices &&
           std::memcmp(scores.data(), other.scores.data(), scores.size() * sizeof(float)) == 0;
  }
};

struct Items {
  std::int64_t count, depth;
  std::vector<float> vectors, scale;

  // Panels of a packing, as bytes, and their bounds.
  struct Packed {
    std::vector<std::uint32_t> panels;
    std::vector<float> stats;
  };

  Packed pack(Packing packing, int workers = 3) const {
    const std::int64_t group = packing == Packing::float32 ? 1 : packing == Packing::int8 ? 4 : 2;
    const std::int64_t panels = (count + 31) / 32, words = (depth + group - 1) / group;
    Packed out{std::vector<std::uint32_t>(static_cast<std::size_t>(panels * words * 32)),
               std::vector<float>(static_cast<std::size_t>(panels * 3 * 32))};
    cpu::PackItemsArgs args;
    args.vectors = view(vectors, count, depth);
    args.packing = packing;
    args.item_scale = scale.data();
    args.panels = out.panels.data();
    args.stats = out.stats.data();
    cpu::kernels().pack_items(args, Threads(workers));
    return out;
  }
};

Items random_items(std::int64_t count, std::int64_t depth, unsigned seed) {
  Items items{count, depth, random_floats(count * depth, seed), random_floats(count, seed + 1)};
  return items;
}

cpu::FusionTopkArgs topk_args(const Items& items, const std::vector<float>& user,
                              std::int64_t users, std::int64_t k, Lists& out) {
  out.scores.resize(static_cast<std::size_t>(users * k));
  out.indices.resize(out.scores.size());
  cpu::FusionTopkArgs args;
  args.user = view(user, users, items.depth);
  args.item = view(items.vectors, items.count, items.depth);
  args.item_scale = items.scale.data();
  args.k = k;
  args.scores = out.scores.data();
  args.indices = out.indices.data();
  return args;
}

Lists scanned(const Items& items, const std::vector<float>& user, std::int64_t users,
              std::int64_t k) {
  Lists out;
  const auto args = topk_args(items, user, users, k, out);
  cpu::kernels().fusion_topk(args, Threads(1));
  return out;
}

Lists from_panels(const Items& items, const Items::Packed& packed, const std::vector<float>& user,
                  std::int64_t users, std::int64_t k, int workers) {
  Lists out;
  auto args = topk_args(items, user, users, k, out);
  args.panels = reinterpret_cast<const float*>(packed.panels.data());
  args.item.data = nullptr;
  cpu::kernels().fusion_topk(args, Threads(workers));
  return out;
}

// Candidates rescored; a user that the bound does not help is scanned. `given_up` counts those.
Lists from_reduced(const Items& items, Packing packing, const Items::Packed& packed,
                   const std::vector<float>& user, std::int64_t users, std::int64_t k, int workers,
                   std::int64_t* given_up = nullptr) {
  cpu::PackedCandidatesArgs args;
  args.user = view(user, users, items.depth);
  args.k = k;
  args.count = items.count;
  args.packing = packing;
  args.panels = packed.panels.data();
  args.stats = packed.stats.data();
  const cpu::CandidateLists found = cpu::kernels().packed_candidates(args, Threads(workers));
  CHECK(static_cast<std::int64_t>(found.offsets.size()) == users + 1);
  Lists out;
  auto rescore = topk_args(items, user, users, k, out);
  rescore.candidates = {found.offsets.data(), found.indices.data(), users,
                        static_cast<std::int64_t>(found.indices.size())};
  cpu::kernels().fusion_topk(rescore, Threads(workers));
  const Lists all = scanned(items, user, users, k);
  for (std::int64_t u = 0; u < users; ++u) {
    if (!found.overflowed[u]) continue;
    if (given_up != nullptr) ++*given_up;
    std::copy_n(&all.scores[u * k], k, &out.scores[u * k]);
    std::copy_n(&all.indices[u * k], k, &out.indices[u * k]);
  }
  return out;
}

void check_exact(const Items& items, const std::vector<float>& user, std::int64_t users) {
  for (const std::int64_t k : {1, 20}) {
    const Lists expected = scanned(items, user, users, k);
    CHECK(from_panels(items, items.pack(Packing::float32), user, users, k, 3) == expected);
    for (const Packing packing : {Packing::bfloat16, Packing::int8}) {
      CHECK(from_reduced(items, packing, items.pack(packing), user, users, k, 3) == expected);
    }
  }
}

}  // namespace

TEST(reduced_lists_are_the_float32_lists) {
  for (const std::int64_t count : {1, 31, 127, 5000}) {
    for (const std::int64_t depth : {1, 7, 64, 300, 1100}) {
      for (const std::int64_t users : {1, 13}) {
        check_exact(random_items(count, depth, 1), random_floats(users * depth, 3), users);
      }
    }
  }
}

TEST(the_bound_helps_on_plain_vectors) {
  const Items items = random_items(20000, 64, 5);
  const auto user = random_floats(13 * 64, 7);
  for (const Packing packing : {Packing::bfloat16, Packing::int8}) {
    std::int64_t given_up = 0;
    from_reduced(items, packing, items.pack(packing), user, 13, 20, 1, &given_up);
    CHECK(given_up == 0);
  }
}

TEST(near_ties_keep_their_order) {
  Items items = random_items(4000, 64, 11);
  // Groups of ten that differ in the last bits of one element only.
  for (std::int64_t p = 0; p < items.count; ++p) {
    std::copy_n(&items.vectors[p / 10 * 10 * 64], 64, &items.vectors[p * 64]);
    items.scale[p] = 1;
    float& x = items.vectors[p * 64 + p % 64];
    for (std::int64_t i = 0; i < p % 10; ++i) x = std::nextafter(x, 1e9F);
  }
  check_exact(items, random_floats(7 * 64, 12), 7);
}

TEST(equal_vectors_and_zeros_keep_their_order) {
  Items items = random_items(3000, 32, 13);
  for (std::int64_t p = 0; p < items.count; ++p) {
    std::copy_n(items.vectors.data(), 32, &items.vectors[p * 32]);
    items.scale[p] = 1;
  }
  check_exact(items, random_floats(3 * 32, 14), 3);
  std::fill(items.vectors.begin(), items.vectors.end(), 0.0F);
  check_exact(items, random_floats(3 * 32, 15), 3);
  std::vector<float> nobody(3 * 32, 0.0F);
  check_exact(random_items(3000, 32, 16), nobody, 3);
}

TEST(huge_tiny_and_outlying_vectors_are_bounded_or_rescored) {
  Items items = random_items(4000, 48, 17);
  for (std::int64_t p = 0; p < items.count; p += 7) {
    for (int d = 0; d < 48; ++d) items.vectors[p * 48 + d] *= 1e18F;
  }
  for (std::int64_t p = 1; p < items.count; p += 7) {
    for (int d = 0; d < 48; ++d) items.vectors[p * 48 + d] *= 1e-30F;
  }
  for (std::int64_t p = 2; p < items.count; p += 3) items.vectors[p * 48 + p % 48] = 1e4F;
  check_exact(items, random_floats(9 * 48, 18), 9);
  auto user = random_floats(9 * 48, 19);
  for (int d = 0; d < 48; ++d) user[d] *= 1e20F;
  for (int d = 48; d < 96; ++d) user[d] *= 1e-38F;
  for (int u = 2; u < 9; ++u) user[u * 48 + u] = 1e5F;
  check_exact(items, user, 9);
}

TEST(products_that_vanish_are_within_the_bound_or_rescored) {
  // vdpbf16ps takes denormal products for zero. Many of them add up: the items differ by nothing
  // else, and without a floor under the norms the wrong one would win.
  constexpr std::int64_t kDepth = 65536;
  for (const float size : {1e-20F, 1e-18F, 1e-17F, 1e-16F, 1e-15F, 1e-14F}) {
    Items items{2, kDepth, std::vector<float>(2 * kDepth, 0.0F), {1.0F, 1.0F}};
    for (std::int64_t d = 0; d < kDepth; ++d) items.vectors[d] = size;
    items.vectors[kDepth] = size * kDepth / 2;
    std::vector<float> user(kDepth, size);
    check_exact(items, user, 1);
  }
}

TEST(scores_among_the_denormal_numbers_are_rescored) {
  // Their rounding is absolute: a bound in proportion to the norms says nothing of it.
  for (unsigned seed = 0; seed < 40; ++seed) {
    Items items = random_items(60, 4, 100 + seed);
    for (std::int64_t p = 0; p < items.count; ++p) {
      for (int d = 0; d < 4; ++d) items.vectors[p * 4 + d] *= 1e-11F;
      items.scale[p] = 1e-14F;
    }
    auto user = random_floats(3 * 4, 200 + seed);
    for (float& x : user) x *= 1e-11F * static_cast<float>(1 + seed);
    check_exact(items, user, 3);
  }
}

TEST(a_score_of_zero_has_one_sign_in_every_packing) {
  Items items{1, 2, {-1e20F, 1.0F}, {0.0F}};
  check_exact(items, {1.0F, 0.0F}, 1);
}

TEST(nan_and_infinity_end_as_in_float32) {
  Items items = random_items(3000, 20, 21);
  for (std::int64_t p = 0; p < items.count; p += 500) {
    items.vectors[p * 20 + 3] = std::numeric_limits<float>::quiet_NaN();
    items.vectors[(p + 1) * 20 + 4] = std::numeric_limits<float>::infinity();
    items.vectors[(p + 2) * 20 + 5] = -std::numeric_limits<float>::infinity();
  }
  auto user = random_floats(6 * 20, 22);
  check_exact(items, user, 6);
  user[5] = std::numeric_limits<float>::quiet_NaN();
  user[25] = std::numeric_limits<float>::infinity();
  check_exact(items, user, 6);
}

TEST(exclusion_and_masks_hold_in_reduced_precision) {
  const Items items = random_items(3000, 16, 31);
  constexpr std::int64_t kUsers = 5, kK = 10;
  const auto user = random_floats(kUsers * 16, 32);
  std::vector<std::int64_t> offsets{0}, excluded;
  std::vector<std::uint8_t> allowed(3000);
  for (std::int64_t p = 0; p < 3000; ++p) allowed[p] = p % 4 != 0;
  for (std::int64_t u = 0; u < kUsers; ++u) {
    for (std::int64_t p = u; p < 3000; p += 5) excluded.push_back(p);
    offsets.push_back(static_cast<std::int64_t>(excluded.size()));
  }
  const RaggedView exclude{offsets.data(), excluded.data(), kUsers, offsets.back()};
  const MaskView mask{allowed.data(), 0, 1};
  Lists expected;
  auto all = topk_args(items, user, kUsers, kK, expected);
  all.exclude = exclude;
  all.allowed = mask;
  cpu::kernels().fusion_topk(all, Threads(1));
  const auto packed = items.pack(Packing::int8);
  cpu::PackedCandidatesArgs args;
  args.user = all.user;
  args.k = kK;
  args.count = items.count;
  args.panels = packed.panels.data();
  args.stats = packed.stats.data();
  args.exclude = exclude;
  args.allowed = mask;
  const auto found = cpu::kernels().packed_candidates(args, Threads(3));
  Lists out;
  auto rescore = topk_args(items, user, kUsers, kK, out);
  rescore.candidates = {found.offsets.data(), found.indices.data(), kUsers, found.offsets.back()};
  cpu::kernels().fusion_topk(rescore, Threads(1));
  for (const auto over : found.overflowed) CHECK(over == 0);
  CHECK(out == expected);
}

TEST(searches_from_many_threads_agree) {
  const Items items = random_items(6000, 24, 41);
  const auto user = random_floats(17 * 24, 42);
  const auto floats = items.pack(Packing::float32), bytes = items.pack(Packing::int8);
  const Lists expected = scanned(items, user, 17, 20);
  std::vector<int> agree(8, 1);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 5; ++round) {
        const Lists found = t % 2 == 0 ? from_panels(items, floats, user, 17, 20, 3)
                                       : from_reduced(items, Packing::int8, bytes, user, 17, 20, 3);
        if (!(found == expected)) agree[static_cast<std::size_t>(t)] = 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const int same : agree) CHECK(same == 1);
}
