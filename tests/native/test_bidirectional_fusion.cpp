// bidirectional_fusion and its gradients against plain loops in double precision, on one and on
// three threads, at odd sizes and with tokens missing on both sides.
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
using Index = std::int64_t;

struct Sizes {
  Index B, N, M, D, user_width, item_width;
};

MatrixView tokens(const Floats& values, Index batch, Index rows, Index columns) {
  return {values.data(), DType::float32, batch, rows, columns, rows * columns, columns, 1};
}

// One side of a problem: inputs, and buffers for what is made of them.
struct Side {
  Side(Index batch, Index count, Index depth, Index width, Index other_width, bool masked,
       unsigned seed)
      : B(batch),
        rows(count),
        D(depth),
        W(width),
        fused_width(other_width),
        tokens(random_floats(B * rows * D, seed)),
        value(random_floats(B * rows * W, seed + 1)),
        grad(random_floats(B * rows * fused_width, seed + 2)),
        present(static_cast<std::size_t>(B * rows), 1),
        fused(grad.size(), 7),
        log_sum(present.size(), 7),
        token_grad(tokens.size(), 7),
        value_grad(value.size(), 7) {
    for (std::size_t i = 0; masked && i < present.size(); ++i) {
      // The second batch element has nothing present on this side.
      present[i] = i % 3 != seed % 3 && static_cast<Index>(i) / rows != 1;
      if (present[i]) continue;
      const float nan = std::numeric_limits<float>::quiet_NaN();
      std::fill_n(tokens.begin() + static_cast<Index>(i) * D, D, nan);
      std::fill_n(value.begin() + static_cast<Index>(i) * W, W, nan);
      std::fill_n(grad.begin() + static_cast<Index>(i) * fused_width, fused_width, nan);
    }
  }

  cpu::BidirectionalSide arguments() {
    cpu::BidirectionalSide side;
    side.tokens = ::tokens(tokens, B, rows, D);
    side.value_is_tokens = value_is_tokens;
    side.value = ::tokens(values(), B, rows, W);
    side.mask = {present.data(), rows, 1};
    side.fused = {fused.data(), DType::float32, B, rows, fused_width};
    side.log_sum = log_sum.data();
    return side;
  }

  cpu::BidirectionalGradients gradients() {
    return {::tokens(grad, B, rows, fused_width), token_grad.data(),
            value_is_tokens ? nullptr : value_grad.data()};
  }

  const Floats& values() const { return value_is_tokens ? tokens : value; }

  Index B, rows, D, W, fused_width;
  bool value_is_tokens = false;
  Floats tokens, value, grad;
  std::vector<std::uint8_t> present;
  Floats fused, log_sum, token_grad, value_grad;
};

// The same in double precision: softmaxes weights[i][j] of `own` rows over `other` rows.
struct Truth {
  explicit Truth(const Side& side)
      : fused(side.fused.size()), token_grad(side.tokens.size()), value_grad(side.value.size()) {}
  Doubles fused, token_grad, value_grad;
};

double product(const Floats& a, Index i, const Floats& b, Index j, Index width) {
  double sum = 0;
  for (Index d = 0; d < width; ++d) sum += double(a[i * width + d]) * b[j * width + d];
  return sum;
}

// What row i of `own`, of batch element b, attends to on the other side, and all gradients of that.
void attend(const Side& own, const Side& other, Index b, Index i, double scale, Truth& of_own,
            Truth& of_other) {
  Doubles weights(static_cast<std::size_t>(other.rows));
  double peak = -std::numeric_limits<double>::infinity(), total = 0, mean = 0;
  const auto at = [&](Index j) { return b * other.rows + j; };
  for (Index j = 0; j < other.rows; ++j) {
    weights[j] = other.present[at(j)] ? scale * product(own.tokens, i, other.tokens, at(j), own.D)
                                      : -std::numeric_limits<double>::infinity();
    peak = std::max(peak, weights[j]);
  }
  if (!own.present[i] || !(peak > -std::numeric_limits<double>::infinity())) return;
  for (double& w : weights) total += w = std::exp(w - peak);
  for (Index j = 0; j < other.rows; ++j) {
    if (!other.present[at(j)]) continue;
    weights[j] /= total;
    mean += weights[j] * product(own.grad, i, other.values(), at(j), other.W);
  }
  for (Index j = 0; j < other.rows; ++j) {
    if (!other.present[at(j)]) continue;
    const double g = weights[j] * (product(own.grad, i, other.values(), at(j), other.W) - mean);
    for (Index d = 0; d < own.D; ++d) {
      of_own.token_grad[i * own.D + d] += scale * g * other.tokens[at(j) * own.D + d];
      of_other.token_grad[at(j) * own.D + d] += scale * g * own.tokens[i * own.D + d];
    }
    for (Index d = 0; d < other.W; ++d) {
      of_own.fused[i * other.W + d] += weights[j] * other.values()[at(j) * other.W + d];
      of_other.value_grad[at(j) * other.W + d] += weights[j] * own.grad[i * other.W + d];
    }
  }
}

void check_near(const Doubles& expected, const Floats& found, double tolerance) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    error += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  CHECK(error <= tolerance * tolerance * norm);  // false for NaN; zeros must be zeros
}

// Errors grow with the scores, whose roundings the exponentials take for relative ones.
void check_sizes(const Sizes& s, bool masked, double scale, double growth = 1,
                 bool value_is_tokens = false) {
  Side user(s.B, s.N, s.D, s.user_width, s.item_width, masked, 1);
  Side item(s.B, s.M, s.D, s.item_width, s.user_width, masked, 5);
  user.value_is_tokens = item.value_is_tokens = value_is_tokens;
  Truth user_truth(user), item_truth(item);
  for (Index b = 0; b < s.B; ++b) {
    for (Index i = 0; i < s.N; ++i) {
      attend(user, item, b, b * s.N + i, scale, user_truth, item_truth);
    }
    for (Index j = 0; j < s.M; ++j) {
      attend(item, user, b, b * s.M + j, scale, item_truth, user_truth);
    }
  }
  for (auto& [truth, side] : {std::pair(&user_truth, &user), {&item_truth, &item}}) {
    if (!value_is_tokens) break;
    for (std::size_t i = 0; i < truth->token_grad.size(); ++i) {
      truth->token_grad[i] += truth->value_grad[i];
    }
    side->value_grad.clear();
  }
  std::vector<Floats> first;
  for (const int workers : {1, 3}) {
    const Threads threads(workers);
    const cpu::BidirectionalFusionArgs args{user.arguments(), item.arguments(), scale};
    cpu::kernels().bidirectional_fusion(args, threads);
    cpu::kernels().bidirectional_fusion_backward({args, user.gradients(), item.gradients()},
                                                 threads);
    for (const auto& [side, truth] : {std::pair(&user, &user_truth), {&item, &item_truth}}) {
      check_near(truth->fused, side->fused, 2e-6 * growth);
      check_near(truth->token_grad, side->token_grad, 2e-5 * growth);
      check_near(truth->value_grad, side->value_grad, 2e-6 * growth);
    }
    const std::vector<Floats> found{user.fused,      item.fused,      user.log_sum,
                                    item.log_sum,    user.token_grad, item.token_grad,
                                    user.value_grad, item.value_grad};
    if (workers == 1) first = found;
    CHECK(found == first);
  }
}

}  // namespace

TEST(bidirectional_fusion_matches_loops) {
  for (const bool masked : {false, true}) {
    for (const Sizes& s : {Sizes{1, 1, 1, 1, 1, 1},
                           {3, 5, 7, 3, 2, 4},
                           {2, 100, 100, 64, 64, 64},
                           {2, 33, 300, 17, 33, 5},
                           {4, 13, 2, 70, 1, 40}}) {
      check_sizes(s, masked, 0.3);
    }
  }
}

TEST(bidirectional_fusion_adds_runs_up) {
  check_sizes({1, 700, 530, 16, 20, 36}, false, 0.25);
  check_sizes({2, 270, 601, 9, 8, 16}, true, -0.5);
}

TEST(bidirectional_fusion_of_distant_peaks) {
  check_sizes({2, 330, 290, 24, 8, 8}, false, 8.0, 30);
}

TEST(bidirectional_fusion_of_sides_that_are_their_values) {
  for (const bool masked : {false, true}) {
    check_sizes({2, 5, 7, 12, 12, 12}, masked, 0.3, 1, true);
    check_sizes({2, 100, 90, 20, 20, 20}, masked, 0.3, 1, true);
    check_sizes({1, 700, 530, 16, 16, 16}, masked, 0.3, 1, true);
  }
}

TEST(bidirectional_fusion_takes_empty_sides) {
  check_sizes({2, 4, 0, 3, 2, 2}, false, 1.0);
  check_sizes({2, 0, 4, 3, 2, 2}, false, 1.0);
  check_sizes({0, 4, 4, 3, 2, 2}, false, 1.0);
  check_sizes({2, 4, 5, 0, 2, 3}, true, 1.0);
  check_sizes({2, 4, 5, 3, 0, 3}, true, 1.0);
}
