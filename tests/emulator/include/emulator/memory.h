// Addresses. Global and local ones are the host's own; shared ones are offsets into the block's
// shared memory, which is mapped into the host's memory too, as a generic address.
#pragma once

#include "engine.h"

namespace emulator {

enum class Access : uint8_t { kRead, kWrite, kAtomic };

// Out of line: the checks that are not always on, and the words for what went wrong.
void track_shared(uint64_t offset, int size, Access access, const void* written);
[[noreturn]] void fail_shared(uint64_t offset, int size);
[[noreturn]] void fail_alignment(const char* space, uint64_t address, int size);
void check_global(uint64_t address, int size, Access access);
void check_generic(uint64_t address, int size, Access access);
bool in_stack(uint64_t address, int size);
[[noreturn]] void fail_local(uint64_t address, int size);

struct Range {
  uint64_t begin, end;
  bool read_only;

  bool holds(uint64_t address, int size) const { return address >= begin && address + size <= end; }
};

struct Guard {
  std::vector<Range> watched;      // while not empty, all else is out of bounds ...
  std::vector<Range> allocations;  // ... but what torch allocated while a guard was up
  std::vector<Range> modules;      // __device__ and __constant__ variables
  size_t last = 0;                 // where the last access was found
};

extern Guard& guard;

// A __device__ or __constant__ variable of a translated module.
struct ModuleVariable {
  ModuleVariable(const void* data, size_t bytes);
};

// Inside one variable, or in the dynamic part, whose variables only the kernel can tell apart.
inline bool in_shared_variable(uint64_t offset, int size) {
  const Kernel& kernel = *engine.launch.kernel;
  for (int i = 0; i < kernel.variable_count; ++i) {
    const SharedVariable& variable = kernel.variables[i];
    if (offset - variable.offset < variable.bytes) {
      return offset - variable.offset + size <= variable.bytes;
    }
  }
  return offset >= dynamic_shared_offset() && offset + size <= engine.launch.shared_bytes;
}

// `written`: the bytes that a plain store is about to write. To write what is there is no race.
inline char* shared(uint64_t address, int size, Access access, const void* written = nullptr) {
  const uint64_t offset = static_cast<uint32_t>(address);
  if (!in_shared_variable(offset, size)) fail_shared(offset, size);
  if (offset % size != 0) fail_alignment("shared", offset, size);
  if (engine.tracking) track_shared(offset, size, access, written);
  return reinterpret_cast<char*>(engine.shared + offset);
}

inline char* global(uint64_t address, int size, Access access, const void* = nullptr) {
  if (address % size != 0) fail_alignment("global", address, size);
  if (!guard.watched.empty()) check_global(address, size, access);
  return reinterpret_cast<char*>(address);
}

inline char* local(uint64_t address, int size, Access, const void* = nullptr) {
  if (address % size != 0) fail_alignment("local", address, size);
  if (!in_stack(address, size)) fail_local(address, size);
  return reinterpret_cast<char*>(address);
}

inline bool is_shared(uint64_t address) {
  return address - reinterpret_cast<uint64_t>(engine.shared) < engine.launch.shared_bytes;
}

inline uint64_t to_shared(uint64_t address) {
  return address - reinterpret_cast<uint64_t>(engine.shared);
}

inline uint64_t from_shared(uint64_t offset) {
  return reinterpret_cast<uint64_t>(engine.shared) + static_cast<uint32_t>(offset);
}

inline char* generic(uint64_t address, int size, Access access, const void* written = nullptr) {
  if (is_shared(address)) return shared(to_shared(address), size, access, written);
  if (address % size != 0) fail_alignment("generic", address, size);
  if (!guard.watched.empty()) check_generic(address, size, access);
  return reinterpret_cast<char*>(address);
}

// cp.async: the bytes arrive at the wait, never earlier; until then the destination holds NaN.
void async_copy(uint64_t to, uint64_t from, int bytes, int source_bytes);
void async_commit();
void async_wait(int groups_left);

}  // namespace emulator
