// Where threads wait for each other.
#include "emulator/warp.h"

#include <cstring>

#include "internal.h"

namespace emulator {
namespace {

Barrier& barrier_of(uint32_t id) {
  if (id >= kBarriers) fail("barrier %u of %d", id, kBarriers);
  return engine.barriers[id];
}

// A barrier of a part of the block counts as one of all of it: a race that it leaves open between
// other threads may go unseen.
void release(Barrier& barrier) {
  ++engine.epoch;
  barrier.result = barrier.votes;
  barrier.votes = barrier.arrived = 0;
  for (int index : barrier.waiting) engine.fibers[index].state = FiberState::kReady;
  barrier.waiting.clear();
}

void arrive(Barrier& barrier, uint32_t count, bool vote) {
  ++barrier.arrived;
  barrier.votes += vote;
  barrier.expected = count;
  if (barrier.arrived >= barrier_members(count)) release(barrier);
}

void arrive_and_wait(Barrier& barrier, uint32_t count, bool vote, const char* operation) {
  Fiber& me = current_fiber();
  me.waits_at = operation;
  me.state = FiberState::kBarrier;
  barrier.waiting.push_back(engine.current);
  arrive(barrier, count, vote);
  if (me.state == FiberState::kBarrier) leave_fiber();
}

// A block whose size is no multiple of 32 has a last warp without all its lanes; the full mask
// stands for those that exist. Anything else that names a lane gone is a mistake.
uint32_t living_mask(uint32_t mask) {
  const Warp& warp = current_warp();
  if ((mask & ~warp.live) == 0) return mask;
  const int last = (engine.current | 31) + 1;
  if (mask != 0xffffffffu || last <= engine.threads) {
    fail("a warp collective names a lane that has exited");
  }
  const uint32_t existing = (1u << (engine.threads & 31)) - 1;
  if (existing & ~warp.live) fail("a warp collective names a lane that has exited");
  return existing;
}

Meeting& meeting_of(uint32_t mask, const char* operation) {
  auto& meetings = current_warp().meetings;
  for (Meeting& meeting : meetings) {
    if (meeting.mask != mask) continue;
    if (std::strcmp(meeting.operation, operation) != 0) {
      fail("lanes of a warp meet in different collectives: %s and %s", meeting.operation,
           operation);
    }
    return meeting;
  }
  meetings.push_back({mask, 0, operation, {}});
  return meetings.back();
}

int shuffle_source(Shuffle kind, uint32_t b, uint32_t c, bool& in_range) {
  const int mine = static_cast<int>(lane());
  const uint32_t segment = c >> 8 & 31, clamp = c & 31, by = b & 31;
  const int last = static_cast<int>((lane() & segment) | (clamp & ~segment));
  int source = 0;
  switch (kind) {
    case Shuffle::up:
      source = mine - static_cast<int>(by);
      in_range = source >= last;
      break;
    case Shuffle::down:
      source = mine + static_cast<int>(by);
      in_range = source <= last;
      break;
    case Shuffle::bfly:
      source = mine ^ static_cast<int>(by);
      in_range = source <= last;
      break;
    default:
      source = static_cast<int>((lane() & segment) | (by & ~segment));
      in_range = source <= last;
  }
  return in_range ? source : mine;
}

const char* name_of(Shuffle kind) {
  constexpr const char* kNames[] = {"shfl.up", "shfl.down", "shfl.bfly", "shfl.idx"};
  return kNames[static_cast<int>(kind)];
}

}  // namespace

int barrier_members(uint32_t count) { return count == 0 ? engine.live : static_cast<int>(count); }

void barrier(uint32_t id, uint32_t count, const char* operation) {
  arrive_and_wait(barrier_of(id), count, false, operation);
}

void barrier_arrive(uint32_t id, uint32_t count) { arrive(barrier_of(id), count, false); }

int barrier_count(uint32_t id, uint32_t count, bool vote) {
  Barrier& barrier = barrier_of(id);
  arrive_and_wait(barrier, count, vote, "bar.red");
  return barrier.result;
}

void release_full_barriers() {
  for (Barrier& barrier : engine.barriers) {
    if (barrier.arrived > 0 && barrier.expected == 0 && barrier.arrived == engine.live) {
      release(barrier);
    }
  }
}

void collect(uint32_t mask, void* slot, const char* operation, Together together) {
  Fiber& me = current_fiber();
  if ((mask >> lane() & 1) == 0) fail("%s by a lane outside its mask", operation);
  mask = living_mask(mask);
  Meeting& meeting = meeting_of(mask, operation);
  if (meeting.arrived & lane_bit()) fail("%s twice by one lane before the others came", operation);
  meeting.slots[lane()] = slot;
  meeting.arrived |= lane_bit();
  if (meeting.arrived != mask) {
    me.waits_at = operation;
    me.state = FiberState::kCollective;
    leave_fiber();
    return;
  }
  together(meeting.slots, mask);
  const int first = engine.current & ~31;
  for_lanes(mask & ~lane_bit(),
            [&](int other) { engine.fibers[first + other].state = FiberState::kReady; });
  auto& meetings = current_warp().meetings;
  meetings.erase(meetings.begin() + (&meeting - meetings.data()));
}

uint32_t shuffle(Shuffle kind, uint32_t value, uint32_t b, uint32_t c, uint32_t mask,
                 bool& in_range) {
  struct Slot {
    uint32_t in, out;
    int source;
  } slot{value, value, shuffle_source(kind, b, c, in_range)};
  collect(mask, &slot, name_of(kind), [](void** slots, uint32_t mask) {
    for_lanes(mask, [&](int lane) {
      Slot* mine = static_cast<Slot*>(slots[lane]);
      if ((mask >> mine->source & 1) == 0) {
        fail("divergent shuffle: lane %d reads lane %d, which takes no part", lane, mine->source);
      }
      mine->out = static_cast<Slot*>(slots[mine->source])->in;
    });
  });
  return slot.out;
}

uint32_t ballot(uint32_t mask, bool vote, const char* operation) {
  struct Slot {
    bool vote;
    uint32_t votes;
  } slot{vote, 0};
  collect(mask, &slot, operation, [](void** slots, uint32_t mask) {
    uint32_t votes = 0;
    for_lanes(mask, [&](int lane) {
      if (static_cast<Slot*>(slots[lane])->vote) votes |= 1u << lane;
    });
    for_lanes(mask, [&](int lane) { static_cast<Slot*>(slots[lane])->votes = votes; });
  });
  return slot.votes;
}

}  // namespace emulator
