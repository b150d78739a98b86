// What the files of the run-time library share among themselves.
#pragma once

#include <algorithm>

#include "emulator/engine.h"

namespace emulator {

constexpr int kBarriers = 16;

// Records what went wrong in the thread that runs, and ends the launch.
void report(const char* what);
void report_deadlock();
void run_block();
// A thread that exits may be the one that the others wait for.
void release_full_barriers();

}  // namespace emulator
