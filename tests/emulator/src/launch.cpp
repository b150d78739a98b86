// Launches, and what is said about those that fail.
#include <cxxabi.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>

#include "internal.h"

namespace emulator {
namespace {

std::string& error_text = *new std::string;

std::string demangled(const char* name) {
  int status = 0;
  char* readable = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string text = readable != nullptr ? readable : name;
  std::free(readable);
  return text;
}

std::string formatted(const char* format, va_list arguments) {
  char text[512];
  std::vsnprintf(text, sizeof text, format, arguments);
  return text;
}

// Where the others are: who waits for whom is what one asks after a deadlock.
std::string waiting() {
  constexpr int kShown = 8;
  std::string text;
  int shown = 0;
  for (int i = 0; i < engine.threads && shown < kShown; ++i) {
    const Fiber& fiber = engine.fibers[i];
    if (fiber.state != FiberState::kBarrier && fiber.state != FiberState::kCollective) continue;
    text += (shown++ == 0 ? "; thread " : ", thread ") + std::to_string(i) + " waits at " +
            fiber.waits_at;
  }
  return text;
}

bool refused(const Launch& launch) {
  const dim3 g = launch.grid, b = launch.block;
  const uint64_t threads = static_cast<uint64_t>(b.x) * b.y * b.z;
  const bool block_fits = threads > 0 && threads <= 1024 && b.z <= 64 &&
                          threads <= static_cast<uint64_t>(launch.kernel->max_threads);
  const bool grid_fits =
      g.x > 0 && g.x <= 0x7fffffff && g.y > 0 && g.y <= 65535 && g.z > 0 && g.z <= 65535;
  if (!block_fits || !grid_fits) {
    set_error(
        "%s: invalid launch configuration: grid (%u, %u, %u), block (%u, %u, %u), up to %d "
        "threads",
        demangled(launch.kernel->name).c_str(), g.x, g.y, g.z, b.x, b.y, b.z,
        launch.kernel->max_threads);
    return true;
  }
  if (launch.shared_bytes > kMaxSharedBytes) {
    set_error("%s: %zu bytes of shared memory, and a block has %zu",
              demangled(launch.kernel->name).c_str(), launch.shared_bytes, kMaxSharedBytes);
    return true;
  }
  return false;
}

void run_grid() {
  const dim3 grid = engine.launch.grid;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x && !engine.failed; ++x) {
        engine.block = {x, y, z};
        run_block();
      }
    }
  }
}

}  // namespace

const char* last_error() { return error_text.c_str(); }

void set_error(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  error_text = formatted(format, arguments);
  va_end(arguments);
}

void report(const char* what) {
  const uint3 b = engine.block, t = current_fiber().thread;
  set_error("%s: %s, at %s in block (%u, %u, %u) thread (%u, %u, %u)",
            demangled(engine.launch.kernel->name).c_str(), what, place_name(engine.place), b.x, b.y,
            b.z, t.x, t.y, t.z);
  engine.failed = true;
}

void report_deadlock() {
  report("deadlock: every thread that is left waits for another");
  error_text += waiting();
}

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(formatted(format, arguments).c_str());
  va_end(arguments);
  exit_thread();
}

int launch(const Launch& launch) {
  static std::mutex mutex;  // autograd may call from a thread of its own
  const std::lock_guard lock(mutex);
  if (refused(launch)) return cudaErrorInvalidConfiguration;
  engine.launch = launch;
  engine.failed = false;
  engine.tracking = engine.settings.race || engine.settings.init;
  const size_t bytes = (launch.shared_bytes + 1023) / 1024 * 1024;
  engine.shared = static_cast<unsigned char*>(std::aligned_alloc(1024, bytes + 1024));
  run_grid();
  std::free(engine.shared);
  engine.shared = nullptr;
  return engine.failed ? cudaErrorLaunchFailure : cudaSuccess;
}

}  // namespace emulator
