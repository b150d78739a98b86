// fusion_cross_entropy and fusion_contrastive against plain loops in double precision, on one and
// on three threads, and the vector exponential over the range of its arguments.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "inputs.h"

using namespace fusionops;
using namespace fusionops::testing;

namespace {

using Doubles = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One problem: inputs, what is left out of each row's softmax, and buffers for the results.
struct Problem {
  Problem(std::int64_t users, std::int64_t items, std::int64_t depth)
      : U(users),
        P(items),
        D(depth),
        user(random_floats(U * D, 1)),
        item(random_floats(P * D, 2)),
        user_scale(random_floats(U, 3)),
        item_scale(random_floats(P, 4)),
        bias(random_floats(P, 5)),
        grad(random_floats(U, 6)),
        offsets(static_cast<std::size_t>(U + 1)) {
    for (std::int64_t u = 0; u < U; ++u) {
      target.push_back(u % 5 == 3 ? -100 : (u * 37) % P);
      // Every third item, the last of them twice, in descending order: neither sorted nor unique.
      for (std::int64_t p = P - 1 - u % 3; p >= 0; p -= 3) excluded.push_back(p);
      if (!excluded.empty() && u % 2 == 0) excluded.push_back(excluded.back());
      offsets[u + 1] = static_cast<std::int64_t>(excluded.size());
    }
  }

  cpu::LogitArgs logits(bool with_bias) const {
    return {view(user, U, D), view(item, P, D), user_scale.data(), item_scale.data(),
            with_bias ? bias.data() : nullptr};
  }

  // Row u of the logits, -inf where an item is excluded.
  Doubles row(std::int64_t u, bool with_bias, bool with_exclusion) const {
    Doubles x(static_cast<std::size_t>(P));
    for (std::int64_t p = 0; p < P; ++p) {
      for (std::int64_t d = 0; d < D; ++d) x[p] += double(user[u * D + d]) * item[p * D + d];
      x[p] = x[p] * user_scale[u] * item_scale[p] + (with_bias ? bias[p] : 0);
    }
    if (with_exclusion) {
      for (std::int64_t i = offsets[u]; i < offsets[u + 1]; ++i) {
        if (excluded[i] != target[u]) x[excluded[i]] = -kInfinity;
      }
    }
    return x;
  }

  RaggedView exclude() const {
    return {offsets.data(), excluded.data(), U, static_cast<std::int64_t>(excluded.size())};
  }

  std::int64_t U, P, D;
  std::vector<float> user, item, user_scale, item_scale, bias, grad;
  std::vector<std::int64_t> target, offsets, excluded;
};

double log_sum_exp(const Doubles& x) {
  const double peak = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double v : x) sum += std::exp(v - peak);
  return peak + std::log(sum);
}

// The gradients of all inputs of the logits.
struct Gradients {
  Gradients(std::int64_t U, std::int64_t P, std::int64_t D)
      : user(static_cast<std::size_t>(U * D)),
        item(static_cast<std::size_t>(P * D)),
        user_scale(static_cast<std::size_t>(U)),
        item_scale(static_cast<std::size_t>(P)),
        bias(static_cast<std::size_t>(P)) {}

  cpu::LogitGradients pointers(bool with_bias) {
    return {user.data(), item.data(), user_scale.data(), item_scale.data(),
            with_bias ? bias.data() : nullptr};
  }
  bool operator==(const Gradients&) const = default;

  std::vector<float> user, item, user_scale, item_scale, bias;
};

// What the gradients G [U, P] toward the logits come to, compared in the 2-norm of each input.
void check_gradients(const Problem& problem, const Doubles& G, const Gradients& found,
                     bool with_bias) {
  const auto [U, P, D] = std::tuple(problem.U, problem.P, problem.D);
  Doubles user(found.user.size()), item(found.item.size()), user_scale(found.user_scale.size()),
      item_scale(found.item_scale.size()), bias(found.bias.size());
  for (std::int64_t u = 0; u < U; ++u) {
    for (std::int64_t p = 0; p < P; ++p) {
      const double g = G[u * P + p], us = problem.user_scale[u], is = problem.item_scale[p];
      for (std::int64_t d = 0; d < D; ++d) {
        const double x = problem.user[u * D + d], y = problem.item[p * D + d];
        user[u * D + d] += g * us * is * y;
        item[p * D + d] += g * us * is * x;
        user_scale[u] += g * is * x * y;
        item_scale[p] += g * us * x * y;
      }
      bias[p] += g;
    }
  }
  const auto near = [](const Doubles& expected, const std::vector<float>& values) {
    double error = 0, size = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      error += (expected[i] - values[i]) * (expected[i] - values[i]);
      size += expected[i] * expected[i];
    }
    return std::sqrt(error) <= 1e-5 * std::sqrt(size) + 1e-6;
  };
  CHECK(near(user, found.user));
  CHECK(near(item, found.item));
  CHECK(near(user_scale, found.user_scale));
  CHECK(near(item_scale, found.item_scale));
  if (with_bias) CHECK(near(bias, found.bias));
}

void check_cross_entropy(const Problem& problem, bool rich) {
  const auto [U, P] = std::pair(problem.U, problem.P);
  const double smoothing = rich ? 0.25 : 0;
  std::vector<float> loss(static_cast<std::size_t>(U)), statistics(2 * loss.size());
  cpu::FusionCrossEntropyBackwardArgs args;
  args.forward.logits = problem.logits(rich);
  args.forward.target = problem.target.data();
  if (rich) args.forward.exclude = problem.exclude();
  args.forward.label_smoothing = smoothing;
  args.forward.loss = loss.data();
  args.forward.statistics = statistics.data();
  args.grad = problem.grad.data();
  cpu::kernels().fusion_cross_entropy(args.forward, Threads(1));
  Gradients one(U, P, problem.D), three(U, P, problem.D);
  args.out = one.pointers(rich);
  cpu::kernels().fusion_cross_entropy_backward(args, Threads(1));
  const auto first = loss;
  cpu::kernels().fusion_cross_entropy(args.forward, Threads(3));
  args.out = three.pointers(rich);
  cpu::kernels().fusion_cross_entropy_backward(args, Threads(3));
  CHECK(first == loss);
  CHECK(one == three);

  Doubles G(static_cast<std::size_t>(U * P));
  for (std::int64_t u = 0; u < U; ++u) {
    const std::int64_t target = problem.target[u];
    if (target < 0) {
      CHECK(loss[u] == 0);
      continue;
    }
    const Doubles x = problem.row(u, rich, rich);
    const double total = log_sum_exp(x);
    double kept = 0, sum = 0;
    for (const double v : x) {
      if (v > -kInfinity) kept += 1, sum += v;
    }
    const double expected =
        (1 - smoothing) * (total - x[target]) + smoothing * (total - sum / kept);
    CHECK(std::abs(loss[u] - expected) <= 2e-5 * (1 + std::abs(total) + std::abs(x[target])));
    for (std::int64_t p = 0; p < P; ++p) {
      if (x[p] == -kInfinity) continue;
      const double hit = p == target ? 1 - smoothing : 0;
      G[u * P + p] = problem.grad[u] * (std::exp(x[p] - total) - hit - smoothing / kept);
    }
  }
  check_gradients(problem, G, one, rich);
}

void check_contrastive(const Problem& problem, bool with_ids) {
  const std::int64_t B = problem.U;
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < B; ++i) ids.push_back(i * i % 7);
  const auto negative = [&](std::int64_t i, std::int64_t j) {
    return i == j || !with_ids || ids[i] != ids[j];
  };
  std::vector<float> loss(static_cast<std::size_t>(B)), statistics(4 * loss.size());
  cpu::FusionContrastiveBackwardArgs args;
  args.forward.logits = problem.logits(false);
  if (with_ids) args.forward.ids = ids.data();
  args.forward.loss = loss.data();
  args.forward.statistics = statistics.data();
  args.grad = problem.grad.data();
  cpu::kernels().fusion_contrastive(args.forward, Threads(1));
  Gradients one(B, B, problem.D), three(B, B, problem.D);
  args.out = one.pointers(false);
  cpu::kernels().fusion_contrastive_backward(args, Threads(1));
  const auto first = loss;
  cpu::kernels().fusion_contrastive(args.forward, Threads(3));
  args.out = three.pointers(false);
  cpu::kernels().fusion_contrastive_backward(args, Threads(3));
  CHECK(first == loss);
  CHECK(one == three);

  std::vector<Doubles> x, transposed(static_cast<std::size_t>(B), Doubles(loss.size()));
  for (std::int64_t i = 0; i < B; ++i) {
    x.push_back(problem.row(i, false, false));
    for (std::int64_t j = 0; j < B; ++j) {
      if (!negative(i, j)) x[i][j] = -kInfinity;
      transposed[j][i] = x[i][j];
    }
  }
  Doubles rows, columns, G(static_cast<std::size_t>(B * B));
  for (std::int64_t i = 0; i < B; ++i) {
    rows.push_back(log_sum_exp(x[i]));
    columns.push_back(log_sum_exp(transposed[i]));
    const double expected = (rows[i] + columns[i]) / 2 - x[i][i];
    CHECK(std::abs(loss[i] - expected) <= 2e-5 * (1 + std::abs(rows[i]) + std::abs(x[i][i])));
  }
  for (std::int64_t i = 0; i < B; ++i) {
    for (std::int64_t j = 0; j < B; ++j) {
      if (x[i][j] == -kInfinity) continue;
      G[i * B + j] = problem.grad[i] * std::exp(x[i][j] - rows[i]) / 2 +
                     problem.grad[j] * std::exp(x[i][j] - columns[j]) / 2 -
                     (i == j ? problem.grad[i] : 0);
    }
  }
  check_gradients(problem, G, one, false);
}

}  // namespace

TEST(cross_entropy_and_its_gradients_agree_with_plain_loops) {
  for (const std::int64_t U : {1, 13, 250}) {
    for (const std::int64_t P : {1, 31, 700}) {
      for (const std::int64_t D : {1, 7, 70}) {
        for (const bool rich : {false, true}) check_cross_entropy(Problem(U, P, D), rich);
      }
    }
  }
  check_cross_entropy(Problem(5, 9001, 3), true);   // several runs of items
  check_cross_entropy(Problem(5001, 40, 3), true);  // several groups of users
}

TEST(contrastive_and_its_gradients_agree_with_plain_loops) {
  for (const std::int64_t B : {1, 13, 600}) {
    for (const std::int64_t D : {1, 7, 70}) {
      for (const bool with_ids : {false, true}) check_contrastive(Problem(B, B, D), with_ids);
    }
  }
}

// With peak 0, total 1 and gradient 1 the gradient toward a bias is exp of the logit.
TEST(the_exponential_is_within_two_ulp) {
  std::vector<float> x{0, -0.0F, -INFINITY, -1e30F, -200, -88.5F};
  for (float v = -87.3F; v < 16; v = std::nextafter(v, 100.0F) + 1e-4F) x.push_back(v);
  const auto P = static_cast<std::int64_t>(x.size());
  const std::vector<float> user{0}, item(x.size()), statistics{0, 1}, grad{1};
  const std::int64_t target = 0;
  std::vector<float> found(x.size());
  cpu::FusionCrossEntropyBackwardArgs args;
  args.forward.logits = {view(user, 1, 1), view(item, P, 1), nullptr, nullptr, x.data()};
  args.forward.target = &target;
  args.forward.statistics = const_cast<float*>(statistics.data());
  args.grad = grad.data();
  args.out.item_bias = found.data();
  cpu::kernels().fusion_cross_entropy_backward(args, Threads(1));
  CHECK(found[0] == 0);  // 1, less the target's weight
  CHECK(found[1] == 1);
  for (std::size_t i = 2; i < 6; ++i) CHECK(found[i] == 0);
  for (std::size_t i = 6; i < x.size(); ++i) {
    const double expected = std::exp(double(x[i]));
    const double unit = std::ldexp(1.0, std::ilogb(expected) - 23);
    CHECK(std::abs(found[i] - expected) <= 2 * unit);
  }
}

// Half of the items have softmaxes of about 1e-29: left out or not, nobody can tell but they.
TEST(what_is_left_out_below_a_threshold_does_not_show) {
  Problem problem(40, 1152, 7);
  for (std::int64_t p = 576; p < problem.P; ++p) problem.bias[p] = -60;
  for (std::int64_t p = 0; p < problem.P; ++p) problem.item_scale[p] *= 0.2F;
  for (auto& target : problem.target) target = target < 0 ? target : target % 576;
  std::vector<float> loss(40), statistics(80);
  cpu::FusionCrossEntropyBackwardArgs args;
  args.forward.logits = problem.logits(true);
  args.forward.target = problem.target.data();
  args.forward.loss = loss.data();
  args.forward.statistics = statistics.data();
  args.grad = problem.grad.data();
  cpu::kernels().fusion_cross_entropy(args.forward, Threads(1));
  Gradients exact(40, problem.P, 7), skipped(40, problem.P, 7);
  args.out = exact.pointers(true);
  cpu::kernels().fusion_cross_entropy_backward(args, Threads(1));
  args.out = skipped.pointers(true);
  args.skip_below = 1e-12;
  cpu::kernels().fusion_cross_entropy_backward(args, Threads(1));
  CHECK(std::equal(exact.item.begin(), exact.item.begin() + 576 * 7, skipped.item.begin()));
  CHECK(exact.bias == skipped.bias);
  for (std::size_t i = 0; i < exact.user.size(); ++i) {
    CHECK(std::abs(exact.user[i] - skipped.user[i]) <= 1e-12F);
  }
  const auto zero = [](float x) { return x == 0; };
  CHECK(std::all_of(skipped.item.begin() + 576 * 7, skipped.item.end(), zero));
  CHECK(std::none_of(exact.item.begin() + 576 * 7, exact.item.end(), zero));
}

TEST(targets_out_of_range_are_refused) {
  const Problem problem(2, 3, 1);
  const auto refused = [&](std::int64_t value) {
    const std::int64_t target[] = {0, value};
    float loss[2], statistics[4];
    cpu::FusionCrossEntropyArgs args;
    args.logits = problem.logits(false);
    args.target = target;
    args.loss = loss;
    args.statistics = statistics;
    try {
      cpu::kernels().fusion_cross_entropy(args, Threads(1));
    } catch (const std::out_of_range&) {
      return true;
    }
    return false;
  };
  CHECK(!refused(2));
  CHECK(!refused(-100));
  CHECK(refused(3));
  CHECK(refused(-1));
}
