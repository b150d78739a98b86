// Torch's own threads for the kernels: at::parallel_for behind the stable ABI.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "core/executor.h"

namespace fusionops::torch_face {

class TorchExecutor final : public Executor {
 public:
  int workers() const override {
    return std::max(1, static_cast<int>(torch::stable::get_num_threads()));
  }

  // An exception must not cross parallel_for, which turns any into "API call failed"; the queue
  // carries it over.
  void run(std::int64_t tasks, Task task) const override {
    TaskQueue queue(tasks, task);
    const std::int64_t team = std::min<std::int64_t>(workers(), tasks);
    if (team <= 1) {
      queue.work(0);
    } else {
      torch::stable::parallel_for(0, team, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) queue.work(static_cast<int>(i));
      });
    }
    queue.rethrow();
  }
};

}  // namespace fusionops::torch_face
