// Tiles of scores: a block of threads multiplies kUsers users with one tile of kItems items after
// the other, and hands each tile of sums to an epilogue while it is in registers.
//
// Slabs of both sides come through rings in shared memory, two slabs ahead of their use, across the
// border between tiles. Users narrow enough to fit in their ring as a whole are staged once and
// stay.
#pragma once

#include <cstdint>

#include "cuda/score_math.cuh"
#include "cuda/score_rows.cuh"

namespace fusionops::cuda {

inline constexpr int kUserSlots = 4;  // users of up to 256 bytes stay in shared memory
inline constexpr int kItemSlots = 3;

// How the warps of a block divide its tile.
template <class MathType, int kWarpsDown, int kWarpsAcross, int kWarpUsers, int kWarpItems,
          int kBlocks>
struct TileShape {
  using Math = MathType;
  using Element = typename Math::Element;
  using Sum = typename Math::Sum;
  static constexpr int kUsers = kWarpsDown * kWarpUsers, kItems = kWarpsAcross * kWarpItems;
  static constexpr int kWarps = kWarpsDown * kWarpsAcross, kThreads = kWarps * 32;
  static constexpr int kResident = kBlocks;  // blocks that a multiprocessor shall hold
  static constexpr int kAcross = kWarpsAcross;
  static constexpr int kUserRow = kWarpUsers, kItemRow = kWarpItems;  // of one warp
  static constexpr int kUserSlot = kUsers * kRowBytes, kItemSlot = kItems * kRowBytes;
  static constexpr int kRingBytes = kUserSlots * kUserSlot + kItemSlots * kItemSlot;

  __device__ static int warp_user() {
    return static_cast<int>(threadIdx.x) / 32 / kAcross * kWarpUsers;
  }
  __device__ static int warp_item() {
    return static_cast<int>(threadIdx.x) / 32 % kAcross * kWarpItems;
  }
};

// Many users: every warp has rows of its own, all items of the tile.
template <class Element>
using LargeTensorTile = TileShape<TensorMath<Element, 32, 128>, 4, 1, 32, 128, 2>;
template <class Element>
using LargePlainTile = TileShape<PlainMath<Element, 16, 128, 16>, 4, 1, 16, 128, 3>;
// Few users: the warps stand side by side along the items. Reading those is the bound then, and the
// products with users that are not there go unnoticed.
template <class Element>
using SmallTensorTile = TileShape<TensorMath<Element, 32, 32>, 1, 4, 32, 32, 4>;
template <class Element>
using SmallPlainTile =
    TileShape<PlainMath<Element, 32, 32, 8>, 1, 4, 32, 32, sizeof(Element) == 8 ? 3 : 4>;

template <class Shape>
class ScoreLoop {
 public:
  using Math = typename Shape::Math;
  using Element = typename Shape::Element;
  using Sum = typename Shape::Sum;

  // Users from `first_user` on; items at the places [first_item, end_item).
  __device__ ScoreLoop(char* ring, const Rows& users, std::int64_t first_user, const Rows& items,
                       std::int64_t first_item, std::int64_t end_item)
      : user_ring_(ring),
        item_ring_(ring + kUserSlots * Shape::kUserSlot),
        users_(users),
        items_(items),
        first_user_(first_user),
        end_item_(end_item),
        slabs_(max(1, (users.width + kSlab<Element> - 1) / kSlab<Element>)),
        first_item_(first_item),
        next_item_(first_item) {}

  // Calls begin(place, slot) when the staging of the tile of items at `place` begins, where slot is
  // one of kItemSlots in turn: what is written for a tile then can be read when it is done, which
  // is when done(place, slot, sum) is called.
  template <class Begin, class Done>
  __device__ void run(const Begin& begin, const Done& done) {
    Sum sum[Math::kRows][Math::kColumns] = {};
    const int lane = static_cast<int>(threadIdx.x) % 32;
    int slab = 0, slot = 0, user_slot = 0, tile_slot = 0;
    for (int i = 0; i < kItemSlots - 1; ++i) stage_next(begin);
    for (std::int64_t place = first_item_; place < end_item_;) {
      copy_wait<kItemSlots - 2>();
      __syncthreads();
      stage_next(begin);
      const int users_at = stay() ? slab : user_slot;
      Math::multiply(user_ring_ + users_at * Shape::kUserSlot + Shape::warp_user() * kRowBytes,
                     item_ring_ + slot * Shape::kItemSlot + Shape::warp_item() * kRowBytes, lane,
                     sum);
      slot = following<kItemSlots>(slot);
      user_slot = following<kUserSlots>(user_slot);
      if (++slab < slabs_) continue;
      slab = 0;
      done(place, tile_slot, sum);
      tile_slot = following<kItemSlots>(tile_slot);
      place += Shape::kItems;
#pragma unroll
      for (int i = 0; i < Math::kRows; ++i) {
#pragma unroll
        for (int j = 0; j < Math::kColumns; ++j) sum[i][j] = Sum(0);
      }
    }
  }

 private:
  // A small width is a whole in the ring: slab i stands in slot i, for all tiles.
  __device__ bool stay() const { return slabs_ <= kUserSlots; }

  template <int kSlots>
  __device__ static int following(int slot) {
    return slot + 1 == kSlots ? 0 : slot + 1;
  }

  // Starts the copies of the slab after the last that was started, if there is one.
  template <class Begin>
  __device__ void stage_next(const Begin& begin) {
    if (next_item_ < end_item_) {
      if (next_slab_ == 0) begin(next_item_, next_tile_slot_);
      const int column = next_slab_ * kSlab<Element>;
      if (!stay() || next_item_ == first_item_) {
        const int users_at = stay() ? next_slab_ : next_user_slot_;
        stage<Element, Shape::kUsers, Shape::kThreads>(user_ring_ + users_at * Shape::kUserSlot,
                                                       users_, first_user_, users_.count, column);
      }
      stage<Element, Shape::kItems, Shape::kThreads>(item_ring_ + next_slot_ * Shape::kItemSlot,
                                                     items_, next_item_, end_item_, column);
      next_slot_ = following<kItemSlots>(next_slot_);
      next_user_slot_ = following<kUserSlots>(next_user_slot_);
      if (++next_slab_ == slabs_) {
        next_slab_ = 0;
        next_item_ += Shape::kItems;
        next_tile_slot_ = following<kItemSlots>(next_tile_slot_);
      }
    }
    copy_commit();  // an empty group at the end, so that copy_wait counts on
  }

  char *user_ring_, *item_ring_;
  const Rows users_, items_;
  const std::int64_t first_user_, end_item_;
  const int slabs_;
  const std::int64_t first_item_;
  // What is staged next, and where.
  std::int64_t next_item_;
  int next_slab_ = 0, next_slot_ = 0, next_user_slot_ = 0, next_tile_slot_ = 0;
};

}  // namespace fusionops::cuda
