// weighted_fusion and its gradients against plain loops in double precision, on one and on three
// threads, with NaN in the places that the mask says are missing.
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "inputs.h"

using namespace fusionops;
using namespace fusionops::testing;

namespace {

using Doubles = std::vector<double>;

struct Problem {
  Problem(std::int64_t batch, std::int64_t tokens, std::int64_t depth, bool shared_logits,
          bool masked)
      : B(batch),
        M(tokens),
        D(depth),
        shared(shared_logits),
        values(random_floats(B * M * D, 1)),
        logits(random_floats((shared ? 1 : B) * M, 2)),
        grad(random_floats(B * D, 3)) {
    if (!masked) return;
    for (std::int64_t i = 0; i < B * M; ++i) {
      mask.push_back(i / M % 5 == 2 || i * 7 % 3 == 0 ? 0 : 1);  // every fifth sample has nothing
      if (mask.back() != 0) continue;
      for (std::int64_t d = 0; d < D; ++d) values[i * D + d] = std::nanf("");
    }
  }

  cpu::WeightedFusionArgs args() const {
    cpu::WeightedFusionArgs args;
    args.values = {values.data(), DType::float32, B, M, D, M * D, D, 1};
    args.logits = {logits.data(), DType::float32, 1, shared ? 1 : B, M, 0, shared ? 0 : M, 1};
    if (!mask.empty()) args.mask = {mask.data(), M, 1};
    return args;
  }

  bool present(std::int64_t b, std::int64_t m) const {
    return mask.empty() || mask[b * M + m] != 0;
  }

  Doubles weights(std::int64_t b) const {
    const float* x = logits.data() + (shared ? 0 : b * M);
    Doubles w(static_cast<std::size_t>(M));
    double sum = 0;
    for (std::int64_t m = 0; m < M; ++m) sum += w[m] = present(b, m) ? std::exp(double(x[m])) : 0;
    for (double& v : w) v = sum > 0 ? v / sum : 0;
    return w;
  }

  std::int64_t B, M, D;
  bool shared;
  std::vector<float> values, logits, grad;
  std::vector<std::uint8_t> mask;
};

struct Results {
  explicit Results(const Problem& p)
      : out(p.grad.size()), values(p.values.size()), logits(p.logits.size()) {}
  bool operator==(const Results&) const = default;
  std::vector<float> out, values, logits;
};

Results compute(const Problem& p, int threads) {
  Results found(p);
  cpu::WeightedFusionBackwardArgs args;
  args.forward = p.args();
  args.forward.out = found.out.data();
  cpu::kernels().weighted_fusion(args.forward, Threads(threads));
  args.grad = view(p.grad, p.B, p.D);
  args.grad_values = found.values.data();
  args.grad_logits = found.logits.data();
  cpu::kernels().weighted_fusion_backward(args, Threads(threads));
  return found;
}

bool close(double found, double expected, double size) {
  return std::abs(found - expected) <= 2e-5 * (1 + size);
}

void check(const Problem& p) {
  const Results found = compute(p, 1);
  CHECK(found == compute(p, 3));
  Doubles toward_logits(p.logits.size());
  for (std::int64_t b = 0; b < p.B; ++b) {
    const Doubles w = p.weights(b);
    Doubles dots(w.size());
    double mean = 0;
    for (std::int64_t d = 0; d < p.D; ++d) {
      const double g = p.grad[b * p.D + d];
      double sum = 0;
      for (std::int64_t m = 0; m < p.M; ++m) {
        const std::int64_t i = (b * p.M + m) * p.D + d;
        CHECK(close(found.values[i], w[m] * g, 1));
        if (!p.present(b, m)) continue;
        sum += w[m] * p.values[i];
        dots[m] += g * p.values[i];
      }
      CHECK(close(found.out[b * p.D + d], sum, 1));
    }
    for (std::int64_t m = 0; m < p.M; ++m) mean += w[m] * dots[m];
    for (std::int64_t m = 0; m < p.M; ++m) {
      toward_logits[(p.shared ? 0 : b * p.M) + m] += w[m] * (dots[m] - mean);
    }
  }
  const double size = std::sqrt(double(p.D)) * (p.shared ? std::sqrt(double(p.B)) : 1);
  for (std::size_t i = 0; i < toward_logits.size(); ++i) {
    CHECK(close(found.logits[i], toward_logits[i], 4 * size));
  }
}

}  // namespace

TEST(weighted_fusion_and_its_gradients_agree_with_plain_loops) {
  for (const std::int64_t B : {1, 13, 700}) {
    for (const std::int64_t M : {1, 3, 20}) {
      for (const std::int64_t D : {1, 7, 64, 70}) {
        for (const bool shared : {false, true}) {
          for (const bool masked : {false, true}) check(Problem(B, M, D, shared, masked));
        }
      }
    }
  }
  check(Problem(3, 1000, 5, false, true));     // longer than a chain
  check(Problem(2, 5, 20001, true, false));    // a dot product, too
  check(Problem(70000, 4, 64, false, false));  // past the caches
}

TEST(weighted_fusion_of_nothing_is_zero) {
  for (const bool shared : {false, true}) {
    const Problem none(0, 3, 4, shared, false), no_tokens(3, 0, 4, shared, false);
    check(none);
    check(no_tokens);
    for (const float x : compute(no_tokens, 1).out) CHECK(x == 0);
  }
  Problem hidden(2, 3, 4, false, false);
  for (float& x : hidden.logits) x = -std::numeric_limits<float>::infinity();
  const Results found = compute(hidden, 1);
  for (const float x : found.out) CHECK(x == 0);
  for (const float x : found.values) CHECK(x == 0);
  for (const float x : found.logits) CHECK(x == 0);
}
