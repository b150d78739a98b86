// The checks of memory: bounds and alignment in words, races and first writes byte by byte.
#include "emulator/memory.h"

#include <cstdio>
#include <cstring>

#include "internal.h"

namespace emulator {

Guard& guard = *new Guard;

namespace {

enum class Readers : uint8_t { kOne, kOneWarp, kMany };

// The last access of its kind to a byte.
struct Touch {
  uint32_t epoch = 0;
  uint32_t warp_epoch = 0;
  uint32_t place = 0;
  int16_t thread = -1;
  bool atomic = false;

  void set(Access access) {
    epoch = engine.epoch;
    warp_epoch = current_warp().epoch;
    place = engine.place;
    thread = static_cast<int16_t>(engine.current);
    atomic = access == Access::kAtomic;
  }
  bool is_now() const { return epoch == engine.epoch; }
  bool is_mine() const { return thread == engine.current; }
  bool is_in_my_warp() const { return thread >> 5 == engine.current >> 5; }
  // A __syncwarp lies between it and this thread.
  bool is_behind_warp_sync() const { return is_in_my_warp() && warp_epoch < current_warp().epoch; }
};

enum class Content : uint8_t { kUndefined, kCopying, kWritten };

// What is known of a byte of shared memory.
struct Shadow {
  Touch write, read;
  uint32_t block = 0;  // whose contents these are
  Readers readers = Readers::kOne;
  Content content = Content::kUndefined;
};

std::vector<Shadow>& shadows = *new std::vector<Shadow>;

[[noreturn]] void fail_race(const char* kind, uint64_t offset, const Touch& other) {
  fail("race (%s) on byte %lu of shared memory with thread %d at %s", kind,
       static_cast<unsigned long>(offset), other.thread, place_name(other.place));
}

void check_race(const Shadow& shadow, uint64_t offset, Access access) {
  const Touch& write = shadow.write;
  if (write.is_now() && !write.is_mine() && !write.is_behind_warp_sync() &&
      !(access == Access::kAtomic && write.atomic)) {
    fail_race(access == Access::kRead ? "read after write" : "write after write", offset, write);
  }
  if (access == Access::kRead || !shadow.read.is_now()) return;
  const Touch& read = shadow.read;
  const bool alone = read.is_mine() && shadow.readers == Readers::kOne;
  const bool ordered = read.is_behind_warp_sync() && shadow.readers != Readers::kMany;
  if (!alone && !ordered) fail_race("write after read", offset, read);
}

void note(Shadow& shadow, Access access) {
  if (access != Access::kRead) {
    shadow.write.set(access);
    shadow.block = engine.block_number;
    shadow.content = Content::kWritten;
    return;
  }
  Touch& read = shadow.read;
  if (!read.is_now()) {
    shadow.readers = Readers::kOne;
  } else if (!read.is_in_my_warp()) {
    shadow.readers = Readers::kMany;
  } else if (!read.is_mine() && shadow.readers == Readers::kOne) {
    shadow.readers = Readers::kOneWarp;
  }
  read.set(access);
}

void check_content(const Shadow& shadow, uint64_t offset) {
  const auto byte = static_cast<unsigned long>(offset);
  if (shadow.block != engine.block_number || shadow.content == Content::kUndefined) {
    fail("uninitialised read of byte %lu of shared memory", byte);
  }
  if (shadow.content == Content::kCopying) {
    fail("read of byte %lu of shared memory before cp.async brought it: a wait is missing", byte);
  }
}

bool writes_the_same(const Shadow& shadow, uint64_t offset, const void* written, int i) {
  return written != nullptr && shadow.write.is_now() &&
         static_cast<const unsigned char*>(written)[i] == engine.shared[offset];
}

const char* verb(Access access) {
  return access == Access::kRead ? "read" : access == Access::kWrite ? "write" : "atomic";
}

bool is_module_variable(uint64_t address, int size) {
  for (const Range& range : guard.modules) {
    if (range.holds(address, size)) return true;
  }
  return false;
}

[[noreturn]] void fail_global(uint64_t address, int size, Access access) {
  constexpr uint64_t kNear = 4096;
  for (const Range& range : guard.watched) {
    if (address + kNear < range.begin || address >= range.end + kNear) continue;
    fail("global %s out of bounds: %d bytes at byte %ld of a tensor of %lu bytes", verb(access),
         size, static_cast<long>(address - range.begin),
         static_cast<unsigned long>(range.end - range.begin));
  }
  fail("global %s out of bounds: %d bytes at %#lx, near no tensor", verb(access), size,
       static_cast<unsigned long>(address));
}

}  // namespace

void track_shared(uint64_t offset, int size, Access access, const void* written) {
  if (shadows.size() < engine.launch.shared_bytes) shadows.resize(engine.launch.shared_bytes);
  for (int i = 0; i < size; ++i) {
    Shadow& shadow = shadows[offset + i];
    if (engine.settings.init && access != Access::kWrite) check_content(shadow, offset + i);
    if (engine.settings.race && !writes_the_same(shadow, offset + i, written, i)) {
      check_race(shadow, offset + i, access);
    }
    note(shadow, access);
  }
}

void mark_copying(uint64_t offset, int size) {
  if (!engine.tracking) return;
  for (int i = 0; i < size; ++i) shadows[offset + i].content = Content::kCopying;
}

void fail_shared(uint64_t offset, int size) {
  fail("shared memory access out of bounds: %d bytes at byte %lu of %zu", size,
       static_cast<unsigned long>(offset), engine.launch.shared_bytes);
}

void fail_alignment(const char* space, uint64_t address, int size) {
  fail("misaligned %s access: %d bytes at %#lx", space, size, static_cast<unsigned long>(address));
}

bool in_stack(uint64_t address, int size) {
  const auto stack = reinterpret_cast<uint64_t>(current_fiber().stack);
  return address >= stack && address + size <= stack + kStackBytes;
}

void fail_local(uint64_t address, int size) {
  fail("local memory access out of bounds: %d bytes at %#lx", size,
       static_cast<unsigned long>(address));
}

void check_global(uint64_t address, int size, Access access) {
  const auto allows = [&](const Range& range) {
    return range.holds(address, size) && !(range.read_only && access != Access::kRead);
  };
  if (guard.last < guard.watched.size() && allows(guard.watched[guard.last])) return;
  for (size_t i = 0; i < guard.watched.size(); ++i) {
    if (!allows(guard.watched[i])) continue;
    guard.last = i;
    return;
  }
  for (const Range& range : guard.allocations) {
    if (range.holds(address, size)) return;
  }
  if (is_module_variable(address, size)) return;
  for (const Range& range : guard.watched) {
    if (range.holds(address, size)) fail("global %s of a read-only tensor", verb(access));
  }
  fail_global(address, size, access);
}

void check_generic(uint64_t address, int size, Access access) {
  if (!in_stack(address, size)) check_global(address, size, access);
}

ModuleVariable::ModuleVariable(const void* data, size_t bytes) {
  const auto begin = reinterpret_cast<uint64_t>(data);
  guard.modules.push_back({begin, begin + bytes, false});
}

void async_copy(uint64_t to, uint64_t from, int bytes, int source_bytes) {
  if (source_bytes < 0 || source_bytes > bytes)
    fail("cp.async with %d of %d bytes", source_bytes, bytes);
  char* place = shared(to, bytes, Access::kWrite);
  if (from % bytes != 0) fail_alignment("global (cp.async)", from, bytes);
  if (source_bytes > 0 && !guard.watched.empty()) check_global(from, source_bytes, Access::kRead);
  std::memset(place, 0xff, bytes);
  const uint64_t offset = static_cast<uint32_t>(to);
  mark_copying(offset, bytes);
  engine.copies[engine.current].open.push_back(
      {offset, reinterpret_cast<const char*>(from), bytes, source_bytes});
}

void async_commit() {
  AsyncQueue& queue = engine.copies[engine.current];
  queue.groups.push_back(std::move(queue.open));
  queue.open.clear();
}

void async_wait(int groups_left) {
  auto& groups = engine.copies[engine.current].groups;
  while (static_cast<int>(groups.size()) > groups_left) {
    for (const AsyncCopy& copy : groups.front()) {
      char* place = shared(copy.to, copy.bytes, Access::kWrite);
      if (copy.source_bytes > 0) std::memcpy(place, copy.from, copy.source_bytes);
      std::memset(place + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
    }
    groups.erase(groups.begin());
  }
}

}  // namespace emulator
