// What Python calls.
#include <algorithm>

#include "emulator/memory.h"

using emulator::engine;
using emulator::guard;

namespace {

emulator::Range range(const void* data, size_t bytes, bool read_only) {
  const auto begin = reinterpret_cast<uint64_t>(data);
  return {begin, begin + bytes, read_only};
}

}  // namespace

extern "C" {

void emulator_settings(int race, int init, int order, int seed) {
  engine.settings = {race != 0, init != 0, static_cast<emulator::Order>(order),
                     static_cast<uint32_t>(seed)};
}

const char* emulator_last_error() { return emulator::last_error(); }

void emulator_watch(const void* data, size_t bytes, int read_only) {
  guard.watched.push_back(range(data, bytes, read_only != 0));
}

void emulator_unwatch() {
  guard.watched.clear();
  guard.last = 0;
}

void emulator_allocated(const void* data, size_t bytes) {
  guard.allocations.push_back(range(data, bytes, false));
}

void emulator_freed(const void* data) {
  const auto begin = reinterpret_cast<uint64_t>(data);
  std::erase_if(guard.allocations, [=](const auto& known) { return known.begin == begin; });
}

void emulator_forget_allocations() { guard.allocations.clear(); }

}  // extern "C"
