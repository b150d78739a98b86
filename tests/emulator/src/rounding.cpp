// Directed rounding, by the processor's own mode.
#include <cfenv>

#include "emulator/real.h"

namespace emulator {
namespace {

int mode_of(Rounding rounding) {
  switch (rounding) {
    case Rounding::kZero:
      return FE_TOWARDZERO;
    case Rounding::kDown:
      return FE_DOWNWARD;
    case Rounding::kUp:
      return FE_UPWARD;
    default:
      return FE_TONEAREST;
  }
}

template <class T>
T fused(T a, T b, T c, Rounding rounding) {
  const int before = std::fegetround();
  std::fesetround(mode_of(rounding));
  volatile T x = a, y = b, z = c;  // not to be computed before the mode is set
  volatile T result = std::fma(x, y, z);
  std::fesetround(before);
  return result;
}

}  // namespace

float fused_rounded(float a, float b, float c, Rounding rounding) {
  return fused(a, b, c, rounding);
}

double fused_rounded(double a, double b, double c, Rounding rounding) {
  return fused(a, b, c, rounding);
}

}  // namespace emulator
