#include "ptx_rt.h"

extern "C" {
void emu_settings(int race, int init, int order, int seed) { race_on = race; init_on = init; E.mode = order; E.seed = seed; }
const char* emu_last_error() { return emu::last_error.c_str(); }
void emu_watch(const void* p, size_t n, int readonly) { ranges.push_back({(uint64_t)p, (uint64_t)p + n, readonly != 0}); }
void emu_unwatch() { ranges.clear(); last_range = 0; }
void emu_allocated(const void* p, size_t n) { allocations.push_back({(uint64_t)p, (uint64_t)p + n, false}); }
void emu_freed(const void* p) { for (size_t i = 0; i < allocations.size(); i++) if (allocations[i].lo == (uint64_t)p) { allocations[i] = allocations.back(); allocations.pop_back(); return; } }
void emu_forget_allocations() { allocations.clear(); }
}
