// mmr_rerank against a plain loop in double precision, on one and on three threads, with strides,
// masks, planted NaN and Inf, ties and lists longer than the pool.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "inputs.h"

using namespace fusionops;
using namespace fusionops::testing;

namespace {

using Places = std::vector<std::int64_t>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Problem {
  Problem(std::int64_t users, std::int64_t candidates, std::int64_t depth)
      : U(users),
        C(candidates),
        D(depth),
        scores(random_floats(U * C, 1)),
        vectors(random_floats(U * C * D, 2)),
        mask(static_cast<std::size_t>(U * C), 1) {}

  float* vector(std::int64_t u, std::int64_t c) { return vectors.data() + (u * C + c) * D; }

  // The user's list by the definition; every product and length in double.
  Places plain(std::int64_t u, std::int64_t k, double trade_off) const {
    std::vector<double> closest(static_cast<std::size_t>(C), -kInfinity);
    std::vector<bool> taken(static_cast<std::size_t>(C));
    Places list(static_cast<std::size_t>(k), -1);
    for (std::int64_t t = 0; t < std::min(k, C); ++t) {
      std::int64_t best = -1;
      double most = -kInfinity;
      for (std::int64_t c = 0; c < C; ++c) {
        if (taken[c] || !open(u, c)) continue;
        const double relevance = trade_off > 0 ? trade_off * scores[u * C + c] : 0;
        const double gain = relevance - (t == 0 ? 0 : (1 - trade_off) * closest[c]);
        if (gain > most) most = gain, best = c;
      }
      if (best < 0) break;
      list[t] = best;
      taken[best] = true;
      for (std::int64_t c = 0; c < C; ++c) {
        if (open(u, c)) closest[c] = std::max(closest[c], cosine(u, c, best));
      }
    }
    return list;
  }

  bool open(std::int64_t u, std::int64_t c) const {
    return mask[u * C + c] && scores[u * C + c] > -kInfinity && std::isfinite(dot(u, c, c));
  }
  double dot(std::int64_t u, std::int64_t a, std::int64_t b) const {
    double sum = 0;
    for (std::int64_t d = 0; d < D; ++d) {
      sum += double(vectors[(u * C + a) * D + d]) * vectors[(u * C + b) * D + d];
    }
    return sum;
  }
  double cosine(std::int64_t u, std::int64_t a, std::int64_t b) const {
    const double lengths = std::sqrt(dot(u, a, a)) * std::sqrt(dot(u, b, b));
    return lengths == 0 ? 0 : dot(u, a, b) / lengths;
  }

  cpu::MmrRerankArgs arguments(std::int64_t k, double trade_off) const {
    cpu::MmrRerankArgs args;
    args.scores = view(scores, U, C);
    args.vectors = {vectors.data(), DType::float32, U, C, D, C * D, D, 1};
    args.mask = {mask.data(), C, 1};
    args.k = k;
    args.trade_off = trade_off;
    return args;
  }

  void check(std::int64_t k, double trade_off) const {
    const Places found = run(arguments(k, trade_off), 1);
    CHECK(run(arguments(k, trade_off), 3) == found);
    for (std::int64_t u = 0; u < U; ++u) {
      CHECK(std::ranges::equal(plain(u, k, trade_off),
                               Places(found.begin() + u * k, found.begin() + (u + 1) * k)));
    }
  }

  static Places run(cpu::MmrRerankArgs args, int threads) {
    Places places(static_cast<std::size_t>(args.vectors.batch * args.k), -7);
    args.places = places.data();
    cpu::kernels().mmr_rerank(args, Threads(threads));
    return places;
  }

  std::int64_t U, C, D;
  std::vector<float> scores, vectors;
  std::vector<std::uint8_t> mask;
};

TEST(mmr_rerank_equals_the_plain_loop) {
  for (const auto& [users, candidates, depth] :
       {std::array{1, 1, 1}, {3, 16, 64}, {40, 37, 7}, {300, 20, 33}, {2, 200, 1100}, {2, 9, 0}}) {
    for (const double trade_off : {0.0, 0.4, 1.0}) {
      Problem(users, candidates, depth).check(candidates / 2 + 3, trade_off);
    }
  }
  Problem(0, 5, 3).check(2, 0.5);
  Problem(3, 0, 3).check(2, 0.5);
}

TEST(mmr_rerank_reads_nothing_that_is_masked) {
  Problem problem(5, 60, 9);
  for (std::int64_t u = 0; u < problem.U; ++u) {
    for (std::int64_t c = u; c < problem.C; c += 3) {
      problem.mask[u * problem.C + c] = 0;
      problem.scores[u * problem.C + c] = kNan;
      std::fill_n(problem.vector(u, c), problem.D, c % 2 ? kNan : kInfinity);
    }
  }
  std::fill_n(problem.mask.begin() + 2 * problem.C, problem.C, 0);  // nothing is left
  problem.check(50, 0.3);
}

TEST(mmr_rerank_leaves_out_what_has_no_score_or_direction) {
  Problem problem(3, 40, 5);
  problem.scores[0] = kInfinity;  // first of all
  problem.scores[1] = -kInfinity;
  problem.scores[2] = kNan;
  problem.vector(0, 4)[2] = kNan;
  problem.vector(0, 5)[1] = -kInfinity;
  std::fill_n(problem.vector(0, 6), problem.D, 0.0F);  // cosine 0 to all
  for (const double trade_off : {0.0, 0.6, 1.0}) problem.check(45, trade_off);
}

TEST(mmr_rerank_of_vectors_whose_squares_leave_the_range) {
  for (const float size : {1e-42F, 1e-30F, 1e30F}) {
    Problem problem(3, 40, 5);
    for (std::int64_t c = 0; c < problem.C; ++c) {
      // Whole numbers keep their direction where they are subnormal.
      for (std::int64_t d = 0; d < problem.D; ++d) {
        float& x = problem.vector(1, c)[d];
        x = std::round(100 * x) * (c % 3 == 1 ? size : 1);
      }
    }
    problem.check(30, 0.3);
  }
}

TEST(mmr_rerank_takes_the_first_of_equals) {
  Problem problem(2, 70, 4);
  std::fill(problem.scores.begin(), problem.scores.end(), 1.0F);
  std::fill(problem.vectors.begin(), problem.vectors.end(), 1.0F);
  Places ascending(140);
  for (int i = 0; i < 140; ++i) ascending[i] = i % 70;
  CHECK(Problem::run(problem.arguments(70, 0.5), 1) == ascending);
}

TEST(mmr_rerank_with_strides) {
  Problem problem(4, 33, 18);
  const Places expected = Problem::run(problem.arguments(12, 0.5), 1);
  // The same vectors as [D][U][C], and scores backwards in memory.
  std::vector<float> turned(problem.vectors.size()), reversed(problem.scores);
  std::reverse(reversed.begin(), reversed.end());
  const std::int64_t rows = problem.U * problem.C;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t d = 0; d < problem.D; ++d) {
      turned[d * rows + row] = problem.vectors[row * problem.D + d];
    }
  }
  cpu::MmrRerankArgs args = problem.arguments(12, 0.5);
  args.vectors = {turned.data(), DType::float32, problem.U, problem.C,
                  problem.D,     problem.C,      1,         rows};
  args.scores.data = reversed.data() + rows - 1;
  args.scores.row_stride = -problem.C;
  args.scores.column_stride = -1;
  CHECK(Problem::run(args, 3) == expected);
}

}  // namespace
