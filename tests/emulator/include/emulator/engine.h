// The state of the launch that is running: one fiber a CUDA thread, blocks one after another.
//
// One copy lives in the run-time library; translated kernels in other libraries use it from there.
#pragma once

#include <cuda_runtime_api.h>  // dim3 and uint3; nothing of it is linked

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator {

enum class Order { kForward, kBackward, kShuffled };
enum class FiberState { kReady, kBarrier, kCollective, kDone };

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack = nullptr;
  uint3 thread = {};
  int index = 0;  // threadIdx, linear
  FiberState state = FiberState::kReady;
  const char* waits_at = nullptr;
};

// Lanes of a mask that have come to a collective instruction, and what each of them brought.
struct Meeting {
  uint32_t mask = 0;
  uint32_t arrived = 0;
  const char* operation = nullptr;
  void* slots[32] = {};
};

struct Warp {
  uint32_t live = 0;
  uint32_t epoch = 0;  // grows with each __syncwarp
  std::vector<Meeting> meetings;
};

struct AsyncCopy {
  uint64_t to = 0;  // an offset into shared memory
  const char* from = nullptr;
  int bytes = 0;
  int source_bytes = 0;
};

struct AsyncQueue {
  std::vector<std::vector<AsyncCopy>> groups;
  std::vector<AsyncCopy> open;
};

// A bar.sync or bar.red in progress; barrier 0 without a count waits for every live thread.
struct Barrier {
  std::vector<int> waiting;
  int arrived = 0;
  uint32_t expected = 0;  // as the last one to come said; 0 is all
  int votes = 0;
  int result = 0;
};

struct Settings {
  bool race = false;
  bool init = false;
  Order order = Order::kForward;
  uint32_t seed = 1;
};

struct SharedVariable {
  uint64_t offset, bytes;
};

// A kernel as the translator describes it; `code` takes pointers to the arguments.
struct Kernel {
  const char* name;
  void (*code)(char** arguments, char** results);
  size_t static_shared;
  int max_threads;
  const char* const* places;  // the names of source lines
  const SharedVariable* variables;
  int variable_count;
};

struct Launch {
  const Kernel* kernel = nullptr;
  dim3 grid, block;
  size_t shared_bytes = 0;  // static and dynamic together
  char** arguments = nullptr;
};

struct Engine {
  Settings settings;
  Launch launch;
  uint3 block = {};           // blockIdx
  uint32_t block_number = 0;  // of all blocks ever run: what marks shared memory as this block's
  uint32_t epoch = 1;         // grows with each barrier of a block, and with each block
  uint32_t place = 0;         // the source line now being executed, a number of kernel->places
  int threads = 0;
  int live = 0;
  int current = -1;
  bool failed = false;
  bool tracking = false;  // settings.race or settings.init
  unsigned char* shared = nullptr;
  void* main_stack_pointer = nullptr;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<AsyncQueue> copies;
  std::vector<Barrier> barriers;
};

extern Engine& engine;

constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kMaxSharedBytes = 227 << 10;
constexpr size_t kDynamicAlignment = 1024;  // what Triton asks of dynamic shared memory

// Gives up the launch, with a message that says where; the host goes on.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Lets the other threads run; comes back when this one is ready again.
void leave_fiber();
[[noreturn]] void exit_thread();
// 0, or a cudaError_t when the launch was refused or a thread failed.
int launch(const Launch& launch);
void set_error(const char* format, ...) __attribute__((format(printf, 1, 2)));
const char* last_error();

inline Fiber& current_fiber() { return engine.fibers[engine.current]; }
inline uint32_t thread_index() { return static_cast<uint32_t>(engine.current); }
inline uint32_t lane() { return thread_index() & 31; }
inline Warp& current_warp() { return engine.warps[thread_index() >> 5]; }
inline uint3 thread_id() { return current_fiber().thread; }
inline void at(uint32_t place) { engine.place = place; }
inline const char* place_name(uint32_t place) { return engine.launch.kernel->places[place]; }
inline void yield_thread() { leave_fiber(); }

inline uint32_t lanes_below() { return (1u << lane()) - 1; }
inline uint32_t lane_bit() { return 1u << lane(); }

inline uint64_t dynamic_shared_offset() {
  const size_t bytes = engine.launch.kernel->static_shared;
  return (bytes + kDynamicAlignment - 1) / kDynamicAlignment * kDynamicAlignment;
}

inline uint32_t dynamic_shared_bytes() {
  const uint64_t offset = dynamic_shared_offset();
  const size_t bytes = engine.launch.shared_bytes;
  return static_cast<uint32_t>(bytes > offset ? bytes - offset : 0);
}

}  // namespace emulator
