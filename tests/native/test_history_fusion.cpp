// history_fusion and its gradients against plain loops in double precision, on one and on three
// threads: a mean, weights and attention, by ids and without, with histories that are empty, and
// some long enough to be cut.
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "inputs.h"

using namespace fusionops;
using namespace fusionops::testing;

namespace {

using Doubles = std::vector<double>;
enum class Kind { mean, weighted, attention };

struct Problem {
  Problem(const std::vector<std::int64_t>& lengths, std::int64_t items, std::int64_t depth,
          Kind which, bool by_ids)
      : B(static_cast<std::int64_t>(lengths.size())), D(depth), kind(which) {
    offsets.push_back(0);
    for (const std::int64_t length : lengths) offsets.push_back(offsets.back() + length);
    T = offsets.back();
    // Few items have most of the entries, and the last has none.
    for (std::int64_t t = 0; by_ids && t < T; ++t) ids.push_back(t % 3 == 0 ? 0 : t * t % items);
    P = by_ids ? items + 1 : T;
    values = random_floats(P * D, 1);
    query = random_floats(B * D, 2);
    weights = random_floats(T, 3);
    grad = random_floats(B * D, 4);
  }

  cpu::HistoryFusionArgs args() const {
    cpu::HistoryFusionArgs args;
    args.values = view(values, P, D);
    args.histories = {offsets.data(), ids.empty() ? nullptr : ids.data(), B, T};
    if (kind == Kind::attention) args.query = view(query, B, D);
    if (kind == Kind::weighted) args.weights = weights.data();
    return args;
  }

  const float* row(std::int64_t t) const {
    return values.data() + (ids.empty() ? t : ids[static_cast<std::size_t>(t)]) * D;
  }
  double dot(const float* a, const float* b) const {
    double sum = 0;
    for (std::int64_t d = 0; d < D; ++d) sum += double(a[d]) * b[d];
    return sum;
  }

  // Of the entries of history b.
  Doubles factors(std::int64_t b) const {
    Doubles w;
    double sum = 0;
    for (std::int64_t t = offsets[b]; t < offsets[b + 1]; ++t) {
      double x = kind == Kind::weighted ? weights[t] : 1;
      if (kind == Kind::attention) x = std::exp(dot(row(t), &query[b * D]) / std::sqrt(double(D)));
      w.push_back(x);
      sum += x;
    }
    for (double& x : w) x = kind == Kind::weighted ? x : x / sum;
    return w;
  }

  std::int64_t B, D, T = 0, P = 0;
  Kind kind;
  std::vector<std::int64_t> offsets, ids;
  std::vector<float> values, query, weights, grad;
};

struct Results {
  explicit Results(const Problem& p)
      : out(p.grad.size()),
        values(p.values.size()),
        query(p.query.size()),
        weights(p.weights.size()) {}
  bool operator==(const Results&) const = default;
  std::vector<float> out, values, query, weights;
};

Results compute(const Problem& p, int threads) {
  Results found(p);
  std::vector<float> statistics(2 * static_cast<std::size_t>(p.B));
  cpu::HistoryFusionBackwardArgs args;
  args.forward = p.args();
  args.forward.out = found.out.data();
  args.forward.statistics = statistics.data();
  cpu::kernels().history_fusion(args.forward, Threads(threads));
  args.grad = view(p.grad, p.B, p.D);
  args.grad_values = found.values.data();
  if (p.kind == Kind::attention) args.grad_query = found.query.data();
  if (p.kind == Kind::weighted) args.grad_weights = found.weights.data();
  cpu::kernels().history_fusion_backward(args, Threads(threads));
  return found;
}

// The gradients of a history, added to those so far.
void add_gradients(const Problem& p, std::int64_t b, Doubles& values, Doubles& query,
                   Doubles& weights) {
  const Doubles w = p.factors(b);
  const float* grad = &p.grad[b * p.D];
  double mean = 0;
  for (std::int64_t t = p.offsets[b], i = 0; t < p.offsets[b + 1]; ++t, ++i) {
    weights[t] = p.dot(grad, p.row(t));
    mean += w[i] * weights[t];
  }
  for (std::int64_t t = p.offsets[b], i = 0; t < p.offsets[b + 1]; ++t, ++i) {
    const double far =
        p.kind == Kind::attention ? w[i] * (weights[t] - mean) / std::sqrt(double(p.D)) : 0;
    for (std::int64_t d = 0; d < p.D; ++d) {
      values[p.row(t) - p.values.data() + d] += w[i] * grad[d] + far * p.query[b * p.D + d];
      query[b * p.D + d] += far * p.row(t)[d];
    }
  }
}

void check_close(const std::vector<float>& found, const Doubles& expected, double size) {
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(std::abs(found[i] - expected[i]) <= 1e-5 * (size + std::abs(expected[i])));
  }
}

void check(const Problem& p) {
  const Results found = compute(p, 1);
  CHECK(found == compute(p, 3));
  Doubles out(found.out.size()), values(found.values.size()), query(found.query.size()),
      weights(found.weights.size());
  for (std::int64_t b = 0; b < p.B; ++b) {
    const Doubles w = p.factors(b);
    for (std::int64_t t = p.offsets[b]; t < p.offsets[b + 1]; ++t) {
      for (std::int64_t d = 0; d < p.D; ++d) {
        out[b * p.D + d] += w[t - p.offsets[b]] * p.row(t)[d];
      }
    }
    add_gradients(p, b, values, query, weights);
  }
  const double size = 4 + std::sqrt(double(p.D)) + std::sqrt(double(p.T));
  check_close(found.out, out, size);
  check_close(found.values, values, size);
  if (p.kind == Kind::attention) check_close(found.query, query, size);
  if (p.kind == Kind::weighted) check_close(found.weights, weights, size);
}

}  // namespace

TEST(history_fusion_and_its_gradients_agree_with_plain_loops) {
  const std::vector<std::vector<std::int64_t>> all{
      {}, {0}, {0, 0, 0}, {1}, {5, 0, 17, 1, 0}, std::vector<std::int64_t>(300, 7)};
  for (const auto& lengths : all) {
    for (const std::int64_t D : {1, 7, 64, 70}) {
      for (const Kind kind : {Kind::mean, Kind::weighted, Kind::attention}) {
        for (const bool by_ids : {false, true}) check(Problem(lengths, 23, D, kind, by_ids));
      }
    }
  }
}

TEST(long_histories_are_cut_and_give_the_same) {
  for (const Kind kind : {Kind::mean, Kind::weighted, Kind::attention}) {
    for (const bool by_ids : {false, true}) {
      check(Problem({9000, 3, 0, 20000}, 40, 7, kind, by_ids));
      check(Problem({3000}, 5000, 300, kind, by_ids));
    }
  }
}

TEST(offsets_and_ids_are_checked_before_anything_is_read) {
  Problem p({2, 3}, 4, 3, Kind::mean, true);
  const auto message = [&] {
    std::vector<float> out(6);
    cpu::HistoryFusionArgs args = p.args();
    args.out = out.data();
    try {
      cpu::kernels().history_fusion(args, Threads(1));
    } catch (const std::out_of_range& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message().empty());
  p.ids[4] = 5;
  CHECK(message() == "ids: index 5 at position 4 is out of range for 5 items");
  p.ids[4] = -1;
  CHECK(message().starts_with("ids: index -1"));
  p.offsets = {0, 6, 5};
  CHECK(message().starts_with("offsets: must not fall"));
  p.offsets = {1, 2, 5};
  CHECK(message().starts_with("offsets: must start at 0"));
  p.offsets = {0, 2, 4};
  CHECK(message().starts_with("offsets: must end at"));
}
