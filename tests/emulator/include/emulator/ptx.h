// All that a translated module includes.
#pragma once

#include "atomics.h"
#include "convert.h"
#include "engine.h"
#include "integer.h"
#include "matrix.h"
#include "memory.h"
#include "real.h"
#include "warp.h"

namespace emulator {

// The functions that device code calls and that no module defines.
void device_printf(char* format, char* arguments, char* result);
[[noreturn]] void device_assert(char* message, char* file, char* line, char* function, char*);

// Kernels of a library: its own cudart finds them by name.
struct Registration {
  Registration(const Kernel* kernels, int count);
};

}  // namespace emulator
