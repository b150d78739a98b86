// Who runs a kernel's tasks: the torch face brings torch's threads, the NumPy face a pool of ours.
//
// A kernel cuts its work into tasks by the shapes alone and never by the number of threads, which
// is why its results are the same bits for any number of them. `worker` names the caller's scratch:
// two tasks that run at the same time never share one.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#include "core/function_ref.h"

namespace fusionops {

using Task = FunctionRef<void(std::int64_t task, int worker)>;

class Executor {
 public:
  virtual ~Executor() = default;
  // The most workers that run() uses at once.
  virtual int workers() const = 0;
  // Runs every task in 0..tasks-1 once; the first exception of a task is thrown when all stopped.
  virtual void run(std::int64_t tasks, Task task) const = 0;
};

// Tasks handed out one at a time, so that a slow core does not hold up the others.
class TaskQueue {
 public:
  TaskQueue(std::int64_t tasks, Task task) : tasks_(tasks), task_(task) {}

  void work(int worker) {
    try {
      for (std::int64_t t; (t = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) {
        task_(t, worker);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_.store(tasks_, std::memory_order_relaxed);
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::int64_t tasks_;
  const Task task_;
  std::atomic<std::int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace fusionops
