// Barriers, and the instructions that lanes of a warp execute together.
#pragma once

#include <algorithm>
#include <cmath>

#include "engine.h"
#include "values.h"

namespace emulator {

// bar.sync, bar.arrive and bar.red; `count` 0 is every live thread of the block.
void barrier(uint32_t id, uint32_t count, const char* operation);
void barrier_arrive(uint32_t id, uint32_t count);
// How many threads came with `vote`.
int barrier_count(uint32_t id, uint32_t count, bool vote);
// How many threads take part in bar.red with this count.
int barrier_members(uint32_t count);

using Together = void (*)(void** slots, uint32_t mask);
// Every lane of the mask brings a slot; the last one to come runs `together` for all.
void collect(uint32_t mask, void* slot, const char* operation, Together together);

inline void warp_sync(uint32_t mask) {
  int nothing = 0;
  collect(mask, &nothing, "bar.warp.sync", [](void**, uint32_t) { ++current_warp().epoch; });
}

enum class Shuffle { up, down, bfly, idx };
uint32_t shuffle(Shuffle kind, uint32_t value, uint32_t b, uint32_t c, uint32_t mask,
                 bool& in_range);
uint32_t ballot(uint32_t mask, bool vote, const char* operation);

inline bool vote_uniform(uint32_t mask, bool vote) {
  const uint32_t votes = ballot(mask, vote, "vote.uni");
  return votes == 0 || votes == mask;
}

inline uint32_t active_mask() { return current_warp().live; }

template <class F>
inline void for_lanes(uint32_t mask, F&& f) {
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) f(lane);
  }
}

// The lanes with the same value; with `all`, the mask if that is every lane, else 0.
template <class V>
inline uint32_t match(bool all, V value, uint32_t mask, bool& every) {
  struct Slot {
    V value;
    uint32_t same;
  } slot{value, 0};
  collect(mask, &slot, "match", [](void** slots, uint32_t mask) {
    for_lanes(mask, [&](int lane) {
      Slot* mine = static_cast<Slot*>(slots[lane]);
      for_lanes(mask, [&](int other) {
        if (static_cast<Slot*>(slots[other])->value == mine->value) mine->same |= 1u << other;
      });
    });
  });
  every = slot.same == mask;
  return all ? (every ? mask : 0) : slot.same;
}

enum class Reduce { add, min, max, and_, or_, xor_ };

template <class T>
inline T combine(Reduce how, T a, T b) {
  if constexpr (std::is_same_v<T, float>) {
    return how == Reduce::min ? std::fmin(a, b) : std::fmax(a, b);
  } else {
    switch (how) {
      case Reduce::add:
        return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
      case Reduce::min:
        return std::min(a, b);
      case Reduce::max:
        return std::max(a, b);
      case Reduce::and_:
        return a & b;
      case Reduce::or_:
        return a | b;
      default:
        return a ^ b;
    }
  }
}

template <class T>
inline T reduce(Reduce how, T value, uint32_t mask) {
  struct Slot {
    T value, result;
    Reduce how;
  } slot{value, value, how};
  collect(mask, &slot, "redux", [](void** slots, uint32_t mask) {
    const Slot* first = static_cast<Slot*>(slots[__builtin_ctz(mask)]);
    T result = first->value;
    for_lanes(mask & (mask - 1), [&](int lane) {
      result = combine(first->how, result, static_cast<Slot*>(slots[lane])->value);
    });
    for_lanes(mask, [&](int lane) { static_cast<Slot*>(slots[lane])->result = result; });
  });
  return slot.result;
}

}  // namespace emulator
