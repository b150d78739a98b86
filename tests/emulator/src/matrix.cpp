// Matrices of 8 x 8 elements of 16 bits between shared memory and the registers of a warp.
#include "emulator/matrix.h"

#include <cstring>

namespace emulator {
namespace {

constexpr int kRowBytes = 16;

struct RowSlot {
  char* row;
  uint32_t* registers;
  int count;
  bool transposed;
};

struct Matrix {
  uint16_t at[8][8];

  // The two elements that a lane holds: neighbours in a row, or in a column.
  uint32_t get(int lane, bool transposed) const {
    const int row = lane / 4, column = lane % 4 * 2;
    const uint32_t low = transposed ? at[column][row] : at[row][column];
    const uint32_t high = transposed ? at[column + 1][row] : at[row][column + 1];
    return low | high << 16;
  }

  void set(int lane, bool transposed, uint32_t pair) {
    const int row = lane / 4, column = lane % 4 * 2;
    (transposed ? at[column][row] : at[row][column]) = static_cast<uint16_t>(pair);
    (transposed ? at[column + 1][row] : at[row][column + 1]) = static_cast<uint16_t>(pair >> 16);
  }
};

RowSlot* slot_of(void** slots, int lane) { return static_cast<RowSlot*>(slots[lane]); }

char* row_address(int count, uint64_t row, Access access) {
  const bool brings = static_cast<int>(lane()) < 8 * count;
  return brings ? shared(row, kRowBytes, access) : nullptr;
}

}  // namespace

void load_matrices(int count, bool transposed, uint32_t* registers, uint64_t row) {
  RowSlot mine{row_address(count, row, Access::kRead), registers, count, transposed};
  collect(kAllLanes, &mine, "ldmatrix", [](void** slots, uint32_t) {
    for (int i = 0; i < slot_of(slots, 0)->count; ++i) {
      Matrix matrix;
      for (int r = 0; r < 8; ++r)
        std::memcpy(matrix.at[r], slot_of(slots, 8 * i + r)->row, kRowBytes);
      for_lanes(kAllLanes, [&](int lane) {
        RowSlot* slot = slot_of(slots, lane);
        slot->registers[i] = matrix.get(lane, slot->transposed);
      });
    }
  });
}

void store_matrices(int count, bool transposed, const uint32_t* registers, uint64_t row) {
  RowSlot mine{row_address(count, row, Access::kWrite), const_cast<uint32_t*>(registers), count,
               transposed};
  collect(kAllLanes, &mine, "stmatrix", [](void** slots, uint32_t) {
    for (int i = 0; i < slot_of(slots, 0)->count; ++i) {
      Matrix matrix;
      for_lanes(kAllLanes, [&](int lane) {
        RowSlot* slot = slot_of(slots, lane);
        matrix.set(lane, slot->transposed, slot->registers[i]);
      });
      for (int r = 0; r < 8; ++r)
        std::memcpy(slot_of(slots, 8 * i + r)->row, matrix.at[r], kRowBytes);
    }
  });
}

uint32_t transpose_matrix(uint32_t value) {
  collect(kAllLanes, &value, "movmatrix", [](void** slots, uint32_t) {
    Matrix matrix;
    for_lanes(kAllLanes,
              [&](int lane) { matrix.set(lane, false, *static_cast<uint32_t*>(slots[lane])); });
    for_lanes(kAllLanes,
              [&](int lane) { *static_cast<uint32_t*>(slots[lane]) = matrix.get(lane, true); });
  });
  return value;
}

}  // namespace emulator
