// What the native tests share: threads, random inputs and views of them.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "core/tensor_view.h"
#include "thread_pool.h"

namespace fusionops::testing {

class Threads final : public Executor {
 public:
  explicit Threads(int workers) : workers_(workers) {}
  int workers() const override { return workers_; }
  void run(std::int64_t tasks, Task task) const override {
    python_face::ThreadPool::instance().run(workers_, tasks, task);
  }

 private:
  int workers_;
};

inline std::vector<float> random_floats(std::int64_t size, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(size));
  for (float& x : values) x = normal(engine);
  return values;
}

inline MatrixView view(const std::vector<float>& values, std::int64_t rows, std::int64_t columns) {
  return {values.data(), DType::float32, 1, rows, columns, 0, columns, 1};
}

}  // namespace fusionops::testing
