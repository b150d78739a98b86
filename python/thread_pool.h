// Threads for the NumPy face: a pool of std::thread, started at the first call that needs it.
//
// The caller works too and never waits for a helper that has not begun, so calls from many threads
// at once share the pool without blocking each other. A forked child has none of the helpers, and
// perhaps a mutex that one of them held: it leaves the parent's pool alone and makes its own.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include "core/executor.h"

namespace fusionops::python_face {

// FUSIONOPS_NUM_THREADS, or the number of processors.
inline int configured_threads() {
  const char* text = std::getenv("FUSIONOPS_NUM_THREADS");
  if (text == nullptr || *text == '\0') {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 1 || value > 4096) {
    throw std::invalid_argument("FUSIONOPS_NUM_THREADS must be an integer from 1 to 4096, got '" +
                                std::string(text) + "'");
  }
  return static_cast<int>(value);
}

class ThreadPool {
 public:
  // Never destroyed: helpers may outlive the interpreter's teardown order. No static in a function,
  // whose guard a child could inherit locked.
  static ThreadPool& instance() {
    ThreadPool* pool = current_.load(std::memory_order_acquire);
    if (pool == nullptr) {
      auto fresh = std::make_unique<ThreadPool>();
      if (current_.compare_exchange_strong(pool, fresh.get())) pool = fresh.release();
    }
    return *pool;
  }

  void run(int workers, std::int64_t tasks, Task task) {
    auto job = std::make_shared<Job>(tasks, task);
    const auto helpers = static_cast<int>(std::min<std::int64_t>(workers, tasks)) - 1;
    if (helpers > 0) offer(job, helpers);
    job->queue.work(0);
    if (helpers > 0) withdraw(job);
    job->queue.rethrow();
  }

 private:
  struct Job {
    Job(std::int64_t tasks, Task task) : queue(tasks, task) {}
    TaskQueue queue;
    int next_worker = 1, active = 0;  // guarded by the pool's mutex
  };

  void offer(const std::shared_ptr<Job>& job, int helpers) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.insert(waiting_.end(), static_cast<std::size_t>(helpers), job);
      for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
    }
    wake_.notify_all();
  }

  // Takes back what no helper has begun, and waits for those that have.
  void withdraw(const std::shared_ptr<Job>& job) {
    std::unique_lock lock(mutex_);
    std::erase(waiting_, job);
    done_.wait(lock, [&] { return job->active == 0; });
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return !waiting_.empty(); });
      const std::shared_ptr<Job> job = waiting_.front();
      waiting_.pop_front();
      const int worker = job->next_worker++;
      ++job->active;
      lock.unlock();
      job->queue.work(worker);
      lock.lock();
      if (--job->active == 0) done_.notify_all();
    }
  }

  static int renew_in_children() {
    return pthread_atfork(nullptr, nullptr, [] { current_.store(nullptr); });
  }

  inline static std::atomic<ThreadPool*> current_{nullptr};
  inline static const int renewed_ = renew_in_children();

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::deque<std::shared_ptr<Job>> waiting_;
  int threads_ = 0;
};

class PoolExecutor final : public Executor {
 public:
  PoolExecutor() : workers_(configured_threads()) {}
  int workers() const override { return workers_; }
  void run(std::int64_t tasks, Task task) const override {
    ThreadPool::instance().run(workers_, tasks, task);
  }

 private:
  int workers_;
};

}  // namespace fusionops::python_face
