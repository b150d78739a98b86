// attention_fusion over long rows against plain loops in double precision, on one and on three
// threads: heads, masks of both sides, dropout, weights and their gradients, shared queries, a
// value that is the key.
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "inputs.h"

using namespace fusionops;
using namespace fusionops::testing;

namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;
using Bytes = std::vector<std::uint8_t>;
using Index = std::int64_t;

struct Options {
  bool masked = false, shared = false, value_is_key = false, grad_weights = false;
  double dropout = 0;
};

struct Sizes {
  Index B, Q, M, D, Dv, H;
};

MatrixView tokens(const Floats& values, Index batch, Index rows, Index columns) {
  return {values.data(), DType::float32, batch, rows, columns, rows * columns, columns, 1};
}

// Whether dropout keeps weight e: Philox4x32-10, written out (fusionops/reference.py).
bool kept(std::uint64_t seed, std::uint64_t e, double dropout) {
  const std::uint64_t counter = e / 4;
  std::uint32_t x[4] = {static_cast<std::uint32_t>(counter),
                        static_cast<std::uint32_t>(counter >> 32), 0, 0};
  auto key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9, key1 += 0xBB67AE85) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * x[0], b = std::uint64_t{0xCD9E8D57} * x[2];
    x[0] = static_cast<std::uint32_t>(b >> 32) ^ x[1] ^ key0;
    x[1] = static_cast<std::uint32_t>(b);
    x[2] = static_cast<std::uint32_t>(a >> 32) ^ x[3] ^ key1;
    x[3] = static_cast<std::uint32_t>(a);
  }
  return (x[e % 4] >> 8) >= std::nearbyint(dropout * (1 << 24));
}

struct Problem {
  Problem(const Sizes& sizes, const Options& options)
      : s(sizes),
        o(options),
        query(random_floats((o.shared ? 1 : s.B) * s.Q * s.D, 1)),
        key(random_floats(s.B * s.M * s.D, 2)),
        value(random_floats(s.B * s.M * s.Dv, 3)),
        grad(random_floats(s.B * s.Q * s.Dv, 4)),
        grad_weights(random_floats(s.B * s.H * s.Q * s.M, 5)),
        mask(static_cast<std::size_t>(s.B * s.M), 1),
        query_mask(static_cast<std::size_t>(s.B * s.Q), 1) {
    if (!o.masked) return;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (Index i = 0; i < s.B * s.M; ++i) {
      mask[i] = i % 3 != 1 && i / s.M != 1;  // the second sample has nothing
      if (mask[i]) continue;
      std::fill_n(key.begin() + i * s.D, s.D, nan);
      std::fill_n(value.begin() + i * s.Dv, s.Dv, nan);
    }
    for (Index i = 0; i < s.B * s.Q; ++i) {
      query_mask[i] = i % 5 != 2;
      if (query_mask[i]) continue;
      if (!o.shared) std::fill_n(query.begin() + i * s.D, s.D, nan);
      std::fill_n(grad.begin() + i * s.Dv, s.Dv, nan);
    }
  }

  const Floats& values() const { return o.value_is_key ? key : value; }

  Sizes s;
  Options o;
  Floats query, key, value, grad, grad_weights;
  Bytes mask, query_mask;
  static constexpr double kScale = 0.4;
  static constexpr Index kSeed = -0x123456789abcdef;
};

struct Results {
  Floats out, weights, log_sum, query, key, value;
  bool operator==(const Results&) const = default;
};

Results run(const Problem& p, int workers) {
  const auto& [B, Q, M, D, Dv, H] = p.s;
  Results r;
  const auto sized = [](Index size) { return Floats(static_cast<std::size_t>(size), 7); };
  r.out = sized(B * Q * Dv);
  r.weights = sized(B * H * Q * M);
  r.log_sum = sized(B * H * Q);
  r.query = sized(static_cast<Index>(p.query.size()));
  r.key = sized(B * M * D);
  r.value = sized(p.o.value_is_key ? 0 : B * M * Dv);
  cpu::AttentionFusionBackwardArgs args;
  cpu::AttentionFusionArgs& forward = args.forward;
  forward.query = tokens(p.query, p.o.shared ? 1 : B, Q, D);
  forward.key = tokens(p.key, B, M, D);
  forward.value = tokens(p.values(), B, M, Dv);
  if (p.o.masked) forward.mask = {p.mask.data(), M, 1};
  if (p.o.masked) forward.query_mask = {p.query_mask.data(), Q, 1};
  forward.num_heads = H;
  forward.scale = Problem::kScale;
  forward.dropout_p = p.o.dropout;
  forward.seed = Problem::kSeed;
  forward.out = {r.out.data(), DType::float32, B, Q, Dv};
  forward.weights = r.weights.data();
  forward.log_sum = r.log_sum.data();
  cpu::kernels().attention_fusion(forward, Threads(workers));
  args.grad = tokens(p.grad, B, Q, Dv);
  if (p.o.grad_weights) args.grad_weights = p.grad_weights.data();
  args.value_is_key = p.o.value_is_key;
  args.query = r.query.data();
  args.key = r.key.data();
  if (!p.o.value_is_key) args.value = r.value.data();
  cpu::kernels().attention_fusion_backward(args, Threads(workers));
  return r;
}

struct Truth {
  explicit Truth(const Problem& problem)
      : p(problem),
        out(p.grad.size()),
        weights(p.grad_weights.size()),
        query(p.query.size()),
        key(p.key.size()),
        value(p.value.size()) {
    for (Index b = 0; b < p.s.B; ++b) {
      for (Index h = 0; h < p.s.H; ++h) {
        for (Index q = 0; q < p.s.Q; ++q) add(b, h, q);
      }
    }
    for (std::size_t i = 0; p.o.value_is_key && i < key.size(); ++i) key[i] += value[i];
  }

  double dot(const Floats& a, Index i, const Floats& b, Index j, Index columns, Index h) const {
    const Index width = columns / p.s.H;
    double sum = 0;
    for (Index d = h * width; d < (h + 1) * width; ++d) {
      sum += double(a[i * columns + d]) * b[j * columns + d];
    }
    return sum;
  }

  void add(Index b, Index h, Index q) {
    const auto& [B, Q, M, D, Dv, H] = p.s;
    const Index row = b * Q + q, query_row = p.o.shared ? q : row,
                first = ((b * H + h) * Q + q) * M;
    if (!p.query_mask[row]) return;
    Doubles softmax(static_cast<std::size_t>(M)), factor(softmax), slope(softmax);
    double total = 0, mean = 0;
    for (Index m = 0; m < M; ++m) {
      if (!p.mask[b * M + m]) continue;
      softmax[m] = std::exp(Problem::kScale * dot(p.query, query_row, p.key, b * M + m, D, h));
      total += softmax[m];
      factor[m] = kept(Problem::kSeed, first + m, p.o.dropout) ? 1 / (1 - p.o.dropout) : 0;
    }
    for (Index m = 0; m < M; ++m) {
      if (!p.mask[b * M + m]) continue;
      softmax[m] /= total;
      weights[first + m] = softmax[m] * factor[m];
      slope[m] = factor[m] * (dot(p.grad, row, p.values(), b * M + m, Dv, h) +
                              (p.o.grad_weights ? p.grad_weights[first + m] : 0));
      mean += softmax[m] * slope[m];
    }
    for (Index m = 0; m < M; ++m) {
      if (!p.mask[b * M + m]) continue;
      const double g = Problem::kScale * softmax[m] * (slope[m] - mean);
      for (Index d = h * D / H; d < (h + 1) * D / H; ++d) {
        query[query_row * D + d] += g * p.key[(b * M + m) * D + d];
        key[(b * M + m) * D + d] += g * p.query[query_row * D + d];
      }
      for (Index d = h * Dv / H; d < (h + 1) * Dv / H; ++d) {
        out[row * Dv + d] += weights[first + m] * p.values()[(b * M + m) * Dv + d];
        value[(b * M + m) * Dv + d] += weights[first + m] * p.grad[row * Dv + d];
      }
    }
  }

  const Problem& p;
  Doubles out, weights, query, key, value;
};

void check_near(const Doubles& expected, const Floats& found, double tolerance) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    error += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  CHECK(error <= tolerance * tolerance * norm);  // false for NaN; zeros must be zeros
}

void check_sizes(const Sizes& sizes, const Options& options) {
  const Problem problem(sizes, options);
  const Truth truth(problem);
  const Results found = run(problem, 1);
  check_near(truth.out, found.out, 3e-6);
  check_near(truth.weights, found.weights, 3e-6);
  check_near(truth.query, found.query, 2e-5);
  check_near(truth.key, found.key, 2e-5);
  check_near(truth.value, found.value, 3e-6);
  CHECK(run(problem, 3) == found);
}

}  // namespace

// Sizes that is_long_attention says are long.
TEST(long_attention_matches_loops) {
  for (const bool masked : {false, true}) {
    check_sizes({2, 130, 131, 12, 12, 1}, {.masked = masked});
    check_sizes({2, 1, 600, 16, 32, 1}, {.masked = masked, .grad_weights = true, .dropout = 0.2});
    check_sizes({2, 5, 300, 6, 8, 2}, {.masked = masked});
    check_sizes({2, 3, 300, 32, 32, 2}, {.masked = masked, .value_is_key = true});
    check_sizes({2, 140, 133, 6, 10, 2}, {.masked = masked, .grad_weights = true});
    check_sizes({2, 129, 270, 9, 18, 3}, {.masked = masked, .dropout = 0.3});
    check_sizes({2, 130, 300, 8, 8, 1}, {.masked = masked, .grad_weights = true, .dropout = 0.5});
    check_sizes({2, 150, 150, 8, 8, 2}, {.masked = masked, .value_is_key = true, .dropout = 0.25});
    check_sizes({3, 140, 130, 8, 4, 2}, {.masked = masked, .shared = true});
  }
}

TEST(long_attention_adds_parts_up) {
  check_sizes({1, 700, 530, 16, 20, 1}, {.masked = true});
  check_sizes({1, 900, 150, 8, 8, 1}, {.grad_weights = true, .dropout = 0.1});
  check_sizes({2, 650, 140, 4, 4, 2}, {.masked = true, .shared = true});
  check_sizes({300, 1, 300, 2, 2, 1}, {.shared = true});
}

TEST(long_attention_takes_empty_sides) {
  check_sizes({2, 300, 0, 4, 4, 1}, {});
  check_sizes({2, 0, 300, 4, 4, 1}, {});
  check_sizes({0, 130, 130, 4, 4, 1}, {.shared = true});
  check_sizes({2, 130, 130, 0, 4, 1}, {.masked = true});
  check_sizes({2, 130, 130, 4, 0, 1}, {});
}
