// csrc/cpu against plain loops in double precision, at sizes that leave partial tiles, on one and
// on three threads of the NumPy face's pool.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "check.h"
#include "core/scored.h"
#include "cpu/kernels.h"
#include "inputs.h"

using namespace fusionops;
using namespace fusionops::testing;

namespace {

double dot(const float* a, const float* b, std::int64_t size) {
  double sum = 0;
  for (std::int64_t i = 0; i < size; ++i) sum += double(a[i]) * double(b[i]);
  return sum;
}

bool close(double a, double b, double scale) { return std::abs(a - b) <= 1e-5 * (1 + scale); }

constexpr std::int64_t kUsers[] = {1, 7, 13}, kItems[] = {1, 31, 127, 5000},
                       kWidths[] = {1, 7, 300};

void check_matrix(std::int64_t U, std::int64_t P, std::int64_t D) {
  const auto user = random_floats(U * D, 1), item = random_floats(P * D, 2);
  const auto scale = random_floats(P, 3);
  std::vector<float> one(static_cast<std::size_t>(U * P)), three(one.size());
  cpu::FusionMatrixArgs args;
  args.user = view(user, U, D);
  args.item = view(item, P, D);
  args.item_scale = scale.data();
  args.out = {one.data(), DType::float32, 1, U, P};
  cpu::kernels().fusion_matrix(args, Threads(1));
  args.out.data = three.data();
  cpu::kernels().fusion_matrix(args, Threads(3));
  CHECK(std::memcmp(one.data(), three.data(), one.size() * sizeof(float)) == 0);
  for (std::int64_t u = 0; u < U; ++u) {
    for (std::int64_t p = 0; p < P; ++p) {
      const double expected = dot(&user[u * D], &item[p * D], D) * scale[p];
      CHECK(close(one[u * P + p], expected, std::sqrt(double(D)) * std::abs(scale[p])));
    }
  }
}

void check_topk(std::int64_t U, std::int64_t P, std::int64_t D, std::int64_t k) {
  const auto user = random_floats(U * D, 4), item = random_floats(P * D, 5);
  std::vector<float> matrix(static_cast<std::size_t>(U * P));
  cpu::FusionMatrixArgs all;
  all.user = view(user, U, D);
  all.item = view(item, P, D);
  all.out = {matrix.data(), DType::float32, 1, U, P};
  cpu::kernels().fusion_matrix(all, Threads(1));
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(U + 1)), excluded;
  for (std::int64_t u = 0; u < U; ++u) {
    for (std::int64_t p = u % 3; p < P; p += 3) excluded.push_back(p);
    offsets[u + 1] = static_cast<std::int64_t>(excluded.size());
  }
  std::vector<float> scores(static_cast<std::size_t>(U * k));
  std::vector<std::int64_t> indices(scores.size());
  cpu::FusionTopkArgs args;
  args.user = all.user;
  args.item = all.item;
  args.k = k;
  args.exclude = {offsets.data(), excluded.data(), U, static_cast<std::int64_t>(excluded.size())};
  args.scores = scores.data();
  args.indices = indices.data();
  cpu::kernels().fusion_topk(args, Threads(3));
  for (std::int64_t u = 0; u < U; ++u) {
    std::vector<Scored<float>> expected;
    for (std::int64_t p = 0; p < P; ++p) {
      if (p % 3 != u % 3) expected.push_back({matrix[u * P + p], p});
    }
    std::sort(expected.begin(), expected.end());
    for (std::int64_t i = 0; i < k; ++i) {
      const bool present = i < static_cast<std::int64_t>(expected.size());
      CHECK(indices[u * k + i] == (present ? expected[i].index : -1));
      CHECK(scores[u * k + i] == (present ? expected[i].score : -INFINITY));
    }
  }
}

}  // namespace

TEST(matrix_agrees_with_plain_loops) {
  for (const auto U : kUsers) {
    for (const auto P : kItems) {
      for (const auto D : kWidths) check_matrix(U, P, D);
    }
  }
}

TEST(top_k_agrees_with_a_sort_of_the_matrix) {
  for (const auto U : kUsers) {
    for (const auto P : kItems) {
      for (const auto k : {1, 20, 200}) check_topk(U, P, 7, k);
    }
  }
}

TEST(contract_agrees_with_plain_loops_whatever_the_threads) {
  for (const std::int64_t K : {1, 255, 257, 9000}) {
    constexpr std::int64_t M = 13, N = 35;
    const auto left = random_floats(K * M, 6), right = random_floats(K * N, 7);
    std::vector<float> one(M * N), three(M * N);
    cpu::FusionContractArgs args;
    args.left = view(left, K, M);
    args.right = view(right, K, N);
    args.out = {one.data(), DType::float32, 1, M, N};
    cpu::kernels().fusion_contract(args, Threads(1));
    args.out.data = three.data();
    cpu::kernels().fusion_contract(args, Threads(3));
    CHECK(one == three);
    for (std::int64_t m = 0; m < M; ++m) {
      for (std::int64_t n = 0; n < N; ++n) {
        double expected = 0;
        for (std::int64_t k = 0; k < K; ++k) expected += double(left[k * M + m]) * right[k * N + n];
        CHECK(close(one[m * N + n], expected, std::sqrt(double(K))));
      }
    }
  }
}

TEST(an_exception_in_a_task_reaches_the_caller) {
  bool caught = false;
  try {
    Threads(3).run(100, [](std::int64_t task, int) {
      if (task == 50) throw std::runtime_error("task 50");
    });
  } catch (const std::runtime_error&) {
    caught = true;
  }
  CHECK(caught);
}
