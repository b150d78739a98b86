// attention_fusion over few tokens against plain loops, on one thread and on three.
#include <cmath>
#include <cstring>

#include "check.h"
#include "cpu/kernels.h"
#include "inputs.h"

namespace fusionops::testing {
namespace {

struct Problem {
  std::int64_t batch, queries, tokens, width, value_width, heads;
  bool masked, shared_query;
};

struct Inputs {
  explicit Inputs(const Problem& p)
      : query(random_floats((p.shared_query ? 1 : p.batch) * p.queries * p.width, 1)),
        key(random_floats(p.batch * p.tokens * p.width, 2)),
        value(random_floats(p.batch * p.tokens * p.value_width, 3)),
        grad(random_floats(p.batch * p.queries * p.value_width, 4)),
        mask(static_cast<std::size_t>(p.batch * p.tokens)) {
    for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 3 != 1;
    for (std::int64_t m = 0; m < p.tokens; ++m) mask[static_cast<std::size_t>(m)] = 0;
    if (!p.masked) return;
    for (std::size_t i = 0; i < mask.size(); ++i) {  // what is missing must not be read
      const auto row = static_cast<std::int64_t>(i);
      if (mask[i] != 0) continue;
      std::fill_n(key.begin() + row * p.width, p.width, std::nanf(""));
      std::fill_n(value.begin() + row * p.value_width, p.value_width, std::nanf(""));
    }
  }

  std::vector<float> query, key, value, grad;
  std::vector<std::uint8_t> mask;
};

MatrixView batch_view(const std::vector<float>& values, std::int64_t batch, std::int64_t rows,
                      std::int64_t columns) {
  return {values.data(), DType::float32, batch, rows, columns, rows * columns, columns, 1};
}

struct Results {
  std::vector<float> out, weights, query, key, value;
};

Results run(const Problem& p, const Inputs& in, int threads) {
  Results found;
  const std::int64_t queries = p.batch * p.queries;
  found.out.resize(static_cast<std::size_t>(queries * p.value_width));
  found.weights.resize(static_cast<std::size_t>(queries * p.heads * p.tokens));
  found.query.resize(in.query.size());
  found.key.resize(in.key.size());
  found.value.resize(in.value.size());
  std::vector<float> log_sum(static_cast<std::size_t>(queries * p.heads));

  cpu::AttentionFusionArgs args;
  args.query = batch_view(in.query, p.shared_query ? 1 : p.batch, p.queries, p.width);
  args.key = batch_view(in.key, p.batch, p.tokens, p.width);
  args.value = batch_view(in.value, p.batch, p.tokens, p.value_width);
  if (p.masked) args.mask = {in.mask.data(), p.tokens, 1};
  args.num_heads = p.heads;
  args.scale = 0.5;
  args.out = {found.out.data(), DType::float32, p.batch, p.queries, p.value_width};
  args.weights = found.weights.data();
  args.log_sum = log_sum.data();
  cpu::kernels().attention_fusion(args, Threads(threads));

  cpu::AttentionFusionBackwardArgs backward;
  backward.forward = args;
  backward.grad = batch_view(in.grad, p.batch, p.queries, p.value_width);
  backward.query = found.query.data();
  backward.key = found.key.data();
  backward.value = found.value.data();
  cpu::kernels().attention_fusion_backward(backward, Threads(threads));
  return found;
}

// The definition, in double.
class Truth {
 public:
  Truth(const Problem& problem, const Inputs& inputs)
      : p_(problem),
        in_(inputs),
        out(in_.grad.size()),
        weights(static_cast<std::size_t>(p_.batch * p_.heads * p_.queries * p_.tokens)),
        query(in_.query.size()),
        key(in_.key.size()),
        value(in_.value.size()) {
    for (std::int64_t b = 0; b < p_.batch; ++b) {
      for (std::int64_t h = 0; h < p_.heads; ++h) {
        for (std::int64_t q = 0; q < p_.queries; ++q) row(b, h, q);
      }
    }
  }

 private:
  const Problem& p_;
  const Inputs& in_;

 public:
  std::vector<double> out, weights, query, key, value;

 private:
  bool present(std::int64_t b, std::int64_t m) const {
    return !p_.masked || in_.mask[static_cast<std::size_t>(b * p_.tokens + m)] != 0;
  }

  void row(std::int64_t b, std::int64_t h, std::int64_t q) {
    const std::int64_t depth = p_.width / p_.heads, values = p_.value_width / p_.heads;
    const auto at = [](std::int64_t row, std::int64_t width, std::int64_t d) {
      return static_cast<std::size_t>(row * width + d);
    };
    const std::int64_t query_row = (p_.shared_query ? 0 : b) * p_.queries + q;
    const std::int64_t out_row = b * p_.queries + q;
    double* weight = weights.data() + ((b * p_.heads + h) * p_.queries + q) * p_.tokens;
    double total = 0;
    for (std::int64_t m = 0; m < p_.tokens; ++m) {
      double score = 0;
      for (std::int64_t d = h * depth; present(b, m) && d < (h + 1) * depth; ++d) {
        score += 0.5 * static_cast<double>(in_.query[at(query_row, p_.width, d)]) *
                 in_.key[at(b * p_.tokens + m, p_.width, d)];
      }
      weight[m] = present(b, m) ? std::exp(score) : 0;
      total += weight[m];
    }
    std::vector<double> slope(static_cast<std::size_t>(p_.tokens));
    double mean = 0;
    for (std::int64_t m = 0; m < p_.tokens; ++m) {
      weight[m] = total > 0 ? weight[m] / total : 0;
      for (std::int64_t d = h * values; d < (h + 1) * values; ++d) {
        const std::size_t place = at(b * p_.tokens + m, p_.value_width, d);
        const double x = present(b, m) ? in_.value[place] : 0;
        const double g = in_.grad[at(out_row, p_.value_width, d)];
        out[at(out_row, p_.value_width, d)] += weight[m] * x;
        value[place] += weight[m] * g;
        slope[static_cast<std::size_t>(m)] += g * x;
      }
      mean += weight[m] * slope[static_cast<std::size_t>(m)];
    }
    for (std::int64_t m = 0; m < p_.tokens; ++m) {
      const double toward = 0.5 * weight[m] * (slope[static_cast<std::size_t>(m)] - mean);
      for (std::int64_t d = h * depth; present(b, m) && d < (h + 1) * depth; ++d) {
        const std::size_t to_query = at(query_row, p_.width, d);
        const std::size_t to_key = at(b * p_.tokens + m, p_.width, d);
        query[to_query] += toward * in_.key[to_key];
        key[to_key] += toward * in_.query[to_query];
      }
    }
  }
};

void check_near(const std::vector<float>& found, const std::vector<double>& truth) {
  CHECK(found.size() == truth.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(std::abs(found[i] - truth[i]) <= 2e-5 * (1 + std::abs(truth[i])));
  }
}

void check_bits(const std::vector<float>& left, const std::vector<float>& right) {
  CHECK(left.size() == right.size());
  CHECK(left.empty() || std::memcmp(left.data(), right.data(), left.size() * sizeof(float)) == 0);
}

}  // namespace

TEST(attention_fusion_is_its_definition) {
  const Problem problems[] = {
      {5, 4, 4, 32, 32, 1, false, false}, {3, 4, 4, 128, 128, 4, true, false},
      {7, 3, 5, 21, 14, 7, true, false},  {300, 1, 8, 16, 16, 1, true, true},
      {2, 33, 7, 10, 6, 2, false, true},  {9, 7, 31, 127, 31, 1, true, false},
      {600, 2, 3, 8, 8, 2, true, true},
  };
  for (const Problem& problem : problems) {
    const Inputs inputs(problem);
    const Results one = run(problem, inputs, 1), three = run(problem, inputs, 3);
    const Truth truth(problem, inputs);
    check_near(one.out, truth.out);
    check_near(one.weights, truth.weights);
    check_near(one.key, truth.key);
    check_near(one.value, truth.value);
    check_near(one.query, truth.query);
    check_bits(one.out, three.out);
    check_bits(one.weights, three.weights);
    check_bits(one.query, three.query);
    check_bits(one.key, three.key);
    check_bits(one.value, three.value);
  }
}

}  // namespace fusionops::testing
