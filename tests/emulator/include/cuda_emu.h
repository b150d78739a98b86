// Host execution of CUDA C++ kernels: one fiber per CUDA thread, blocks one after another.
#pragma once
#include <cuda_runtime_api.h>   // dim3, float4, cudaStream_t ... (types only; nothing is linked)
#include <vector_functions.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cmath>
#include <algorithm>
#include <functional>
#include <vector>
#include <string>
#include <cstdarg>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define EMU_ASAN 1
#endif
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emu {
// ---- fibers -------------------------------------------------------------------------------------
extern "C" void emu_switch(void** save_sp, void* new_sp);
asm(R"(.text
.weak emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi); movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size emu_switch,.-emu_switch
)");
enum State { READY, BARRIER, COLLECT, DONE };
struct Fiber { void* sp; char* stack; void* fake; uint3 tid; int lin; State st; const char* where; };
struct Meet { uint32_t mask, arrived; const char* op; void* slot[32]; };
struct Warp { uint32_t live, epoch; std::vector<Meet> meets; };   // one rendezvous for each mask now open
struct AsyncCopy { void* dst; const void* src; int bytes, src_bytes; };
struct ThreadAsync { std::vector<std::vector<AsyncCopy>> groups; std::vector<AsyncCopy> open; };
constexpr size_t STACK = 256 << 10;
struct Engine {
  std::vector<Fiber> f; std::vector<Warp> w; std::vector<ThreadAsync> as;
  std::vector<int> order; std::function<void()> body;
  void* main_sp; void* main_fake; const void* main_bottom; size_t main_size;
  int cur = -1, n = 0, barred = 0, live = 0, red_acc = 0, red_res[3] = {}, bar_gen = 0, red_mode = 0; unsigned seed = 0; int mode = 0;
  unsigned char* dyn = nullptr; size_t dyn_bytes = 0; long switches = 0; uint32_t block_id = 0; bool failed = false, soft = getenv("EMU_ABORT") == nullptr;
};
inline Engine& E = *new Engine;
inline uint32_t block_epoch = 1; inline unsigned loc = 0;      // for the race check and for messages
inline void (*on_shared_write)(void*, int) = nullptr;
inline std::string& last_error = *new std::string; inline const char* kernel_name = "?";
inline void report(const char* m) {
  char head[512]; snprintf(head, sizeof head, "%s: %s in block (%u,%u,%u) thread %d source line %u", kernel_name, m, blockIdx.x, blockIdx.y, blockIdx.z, E.cur, loc);
  last_error = head; int shown = 0;
  for (auto& t : E.f) if (t.lin < E.n && t.st != DONE && (t.st == BARRIER || t.st == COLLECT) && shown++ < 8) { snprintf(head, sizeof head, "; thread %d waits at %s", t.lin, t.where ? t.where : "?"); last_error += head; }
  E.failed = true;
}
inline void to_main();
[[noreturn]] inline void die(const char* m) { report(m); E.f[E.cur].st = DONE; to_main(); abort(); }   // the launch is given up, the host goes on
inline void to_main() {
  Fiber& me = E.f[E.cur];
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(me.st == DONE ? nullptr : &me.fake, E.main_bottom, E.main_size);
#endif
  emu_switch(&me.sp, E.main_sp);
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(me.fake, &E.main_bottom, &E.main_size);
#endif
}
inline void entry() {
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &E.main_bottom, &E.main_size);
#endif
  E.body();
  Fiber& me = E.f[E.cur]; me.st = DONE; to_main(); abort();
}
inline void resume(int i) {
  Fiber& t = E.f[i]; E.cur = i; threadIdx = t.tid; E.switches++;
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(&E.main_fake, t.stack, STACK);
#endif
  emu_switch(&E.main_sp, t.sp);
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(E.main_fake, nullptr, nullptr);
#endif
}
inline void release_barrier() {
  E.red_res[0] = E.red_acc; E.red_acc = 0; E.barred = 0; block_epoch++;
  for (int i = 0; i < E.n; i++) if (E.f[i].st == BARRIER) E.f[i].st = READY;
}
inline void run_block(dim3 bd, size_t smem) {
  block_epoch++; E.block_id++;
  int n = bd.x * bd.y * bd.z, nw = (n + 31) / 32;
  while ((int)E.f.size() < n) { Fiber t{}; t.stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); E.f.push_back(t); }
  E.w.assign(nw, Warp{}); E.as.assign(n, ThreadAsync{}); E.n = n; E.live = n; E.barred = 0; E.red_acc = 0;
  E.dyn = smem ? (unsigned char*)aligned_alloc(1024, (smem + 1023) / 1024 * 1024) : nullptr; E.dyn_bytes = smem;
  if (smem) memset(E.dyn, 0xFF, smem);                                            // NaN: shared memory starts undefined
#ifdef EMU_ASAN
#endif
  for (int i = 0; i < n; i++) {
    Fiber& t = E.f[i]; t.lin = i; t.tid = make_uint3(i % bd.x, i / bd.x % bd.y, i / (bd.x * bd.y)); t.st = READY; t.fake = nullptr; t.where = nullptr;
    void** sp = (void**)(t.stack + STACK - 64); *--sp = nullptr; *--sp = (void*)entry; for (int k = 0; k < 6; k++) *--sp = nullptr; t.sp = sp;
    E.w[i / 32].live |= 1u << (i % 32);
  }
  E.order.resize(n); for (int i = 0; i < n; i++) E.order[i] = E.mode == 1 ? n - 1 - i : i;
  int done = 0;
  while (done < n && !E.failed) {
    bool any = false;
    if (E.mode == 2) for (int i = n - 1; i > 0; i--) { E.seed = E.seed * 1664525u + 1013904223u; std::swap(E.order[i], E.order[(E.seed >> 8) % (i + 1)]); }
    for (int i : E.order) if (E.f[i].st == READY) {
      any = true; resume(i); if (E.failed) break;
      if (E.f[i].st == DONE) { done++; E.live--; E.w[i / 32].live &= ~(1u << (i % 32)); if (E.live && E.barred == E.live) release_barrier(); }
    }
    if (!any && done < n && !E.failed) { report("deadlock (threads wait for each other)"); break; }
  }
  free(E.dyn);
}
// ---- block and warp rendezvous -------------------------------------------------------------------
inline int barrier(int pred, int mode, const char* where) {   // mode 0 plain/count, 1 and, 2 or (as a count)
  Fiber& me = E.f[E.cur]; E.red_acc += pred; E.barred++;
  me.where = where; me.st = BARRIER;
  if (E.barred == E.live) release_barrier();
  if (me.st == BARRIER) to_main();
  return E.red_res[0];
}
// every lane of mask brings a slot; the last one runs fn(slots, mask) for all
template <class Fn> inline void collect(uint32_t mask, void* slot, const char* op, Fn fn) {
  Fiber& me = E.f[E.cur]; int lane = me.lin & 31; Warp& w = E.w[me.lin >> 5];
  if (!(mask >> lane & 1)) die("warp collective called by a lane outside its mask");
  if (mask & ~w.live) { uint32_t full = w.live; if (mask != 0xffffffffu || E.n >= ((me.lin >> 5) + 1) * 32) (void)full, die("warp collective names a lane that has exited"); mask &= w.live; }
  size_t i = 0; while (i < w.meets.size() && w.meets[i].mask != mask) i++;
  if (i == w.meets.size()) w.meets.push_back(Meet{mask, 0, op, {}});
  if (strcmp(w.meets[i].op, op)) { me.where = op; die("lanes of a warp meet in different collectives"); }
  w.meets[i].slot[lane] = slot; w.meets[i].arrived |= 1u << lane;
  if (w.meets[i].arrived == mask) {
    fn(w.meets[i].slot, mask); w.meets.erase(w.meets.begin() + i);
    for (int l = 0; l < 32; l++) if ((mask >> l & 1) && l != lane) E.f[(me.lin & ~31) + l].st = READY;
  } else { me.where = op; me.st = COLLECT; to_main(); }
}
template <class T, class Sel> inline T shuffle(uint32_t mask, T v, const char* op, Sel src) {
  struct S { T in, out; int from; } s{v, v, 0}; int lane = E.f[E.cur].lin & 31; s.from = src(lane);
  collect(mask, &s, op, [](void** a, uint32_t m) { for (int l = 0; l < 32; l++) if (m >> l & 1) { S* x = (S*)a[l]; int f = x->from; if (!(m >> f & 1)) die("shuffle reads a lane outside the mask"); x->out = ((S*)a[f])->in; } });
  return s.out;
}
inline unsigned ballot(uint32_t mask, int p, const char* op) {
  struct S { int in; unsigned out; } s{p, 0};
  collect(mask, &s, op, [](void** a, uint32_t m) { unsigned r = 0; for (int l = 0; l < 32; l++) if ((m >> l & 1) && ((S*)a[l])->in) r |= 1u << l; for (int l = 0; l < 32; l++) if (m >> l & 1) ((S*)a[l])->out = r; });
  return s.out;
}
// ---- cp.async: the copy happens at wait time, never earlier -----------------------------------------
inline void cp_async(void* dst, const void* src, int bytes, int src_bytes) {
  if (((uintptr_t)dst | (uintptr_t)src) % bytes) die("cp.async: address not aligned to its size");
  memset(dst, 0xFF, bytes); if (on_shared_write) on_shared_write(dst, bytes);       // not there yet
  E.as[E.cur].open.push_back({dst, src, bytes, src_bytes});
}
inline void cp_commit() { auto& a = E.as[E.cur]; a.groups.push_back(std::move(a.open)); a.open.clear(); }
inline void cp_wait(int leave) {
  auto& g = E.as[E.cur].groups;
  while ((int)g.size() > leave) { for (auto& c : g.front()) { if (on_shared_write) on_shared_write(c.dst, c.bytes); memcpy(c.dst, c.src, c.src_bytes); memset((char*)c.dst + c.src_bytes, 0, c.bytes - c.src_bytes); } g.erase(g.begin()); }
}
}  // namespace emu

