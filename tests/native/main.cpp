// Runs every registered test; exits with 77, which CTest takes for "skipped", where this processor
// lacks the instruction set that FUSIONOPS_ISA names.
#include <cstdio>
#include <stdexcept>

#include "check.h"
#include "cpu/kernels.h"

using namespace fusionops;

int main() {
  try {
    cpu::kernels();
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "skipped: %s\n", error.what());
    return 77;
  }
  for (const auto& test : testing::cases()) {
    test.run();
    std::printf("ok %s\n", test.name);
  }
  std::printf("%zu passed, 0 failed\n", testing::cases().size());
}
