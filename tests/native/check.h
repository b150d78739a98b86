// The smallest test harness that fails loudly: CHECK(condition) and a register of test functions.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace fusionops::testing {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct Registration {
  Registration(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

}  // namespace fusionops::testing

#define TEST(name)                                                             \
  static void name();                                                          \
  static const fusionops::testing::Registration register_##name(#name, &name); \
  static void name()

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (0)
