// Threads as fibers, and blocks run by them.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <numeric>

#include "emulator/memory.h"
#include "internal.h"

namespace emulator {

// Never destroyed: tensors that outlive the library's destructors still report to the guard.
Engine& engine = *new Engine;

extern "C" void emulator_switch(void** save, void* load);
// The registers that a function must keep, on either stack; a few nanoseconds against a system
// call.
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, .-emulator_switch
)");

namespace {

constexpr size_t kPage = 4096;
constexpr int kSavedRegisters = 6;

char* new_stack() {
  void* memory = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  mprotect(memory, kPage, PROT_NONE);  // an overflow faults here
  return static_cast<char*>(memory) + kPage;
}

void enter_fiber() {
  engine.launch.kernel->code(engine.launch.arguments, nullptr);
  exit_thread();
}

// A stack that emulator_switch can load: it returns into enter_fiber.
void prepare(Fiber& fiber, int index) {
  const dim3 block = engine.launch.block;
  if (fiber.stack == nullptr) fiber.stack = new_stack();
  fiber.index = index;
  fiber.thread = {index % block.x, index / block.x % block.y, index / (block.x * block.y)};
  fiber.state = FiberState::kReady;
  fiber.waits_at = nullptr;
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes - 64);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(enter_fiber);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
}

void prepare_block(int threads) {
  ++engine.epoch;
  ++engine.block_number;
  engine.threads = engine.live = threads;
  if (static_cast<int>(engine.fibers.size()) < threads) engine.fibers.resize(threads);
  engine.warps.assign((threads + 31) / 32, Warp{});
  engine.copies.assign(threads, AsyncQueue{});
  engine.barriers.assign(kBarriers, Barrier{});
  for (int i = 0; i < threads; ++i) {
    prepare(engine.fibers[i], i);
    engine.warps[i / 32].live |= 1u << (i % 32);
  }
  // Undefined on a GPU; here NaN, which shows.
  std::memset(engine.shared, 0xff, engine.launch.shared_bytes);
}

void shuffle_order(std::vector<int>& order) {
  for (size_t i = order.size(); i > 1; --i) {
    engine.settings.seed = engine.settings.seed * 1664525u + 1013904223u;
    std::swap(order[i - 1], order[(engine.settings.seed >> 8) % i]);
  }
}

void retire(int index) {
  --engine.live;
  engine.warps[index / 32].live &= ~(1u << (index % 32));
  release_full_barriers();
}

// Gives each thread that is ready one turn; whether there was any.
bool take_turns(const std::vector<int>& order) {
  bool any = false;
  for (int index : order) {
    Fiber& fiber = engine.fibers[index];
    if (fiber.state != FiberState::kReady) continue;
    any = true;
    engine.current = index;
    emulator_switch(&engine.main_stack_pointer, fiber.stack_pointer);
    if (engine.failed) return true;
    if (fiber.state == FiberState::kDone) retire(index);
  }
  return any;
}

}  // namespace

void leave_fiber() {
  Fiber& me = current_fiber();
  emulator_switch(&me.stack_pointer, engine.main_stack_pointer);
}

void exit_thread() {
  current_fiber().state = FiberState::kDone;
  leave_fiber();
  std::abort();  // nobody resumes a thread that is done
}

void run_block() {
  const dim3 block = engine.launch.block;
  prepare_block(static_cast<int>(block.x * block.y * block.z));
  std::vector<int> order(engine.threads);
  std::iota(order.begin(), order.end(), 0);
  if (engine.settings.order == Order::kBackward) std::reverse(order.begin(), order.end());
  while (engine.live > 0 && !engine.failed) {
    if (engine.settings.order == Order::kShuffled) shuffle_order(order);
    if (!take_turns(order)) {
      report_deadlock();
      return;
    }
  }
}

}  // namespace emulator
