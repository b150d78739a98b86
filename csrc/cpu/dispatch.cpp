// Which version of the kernels runs: the best that was built and that the processor has.
#include <cstdlib>
#include <stdexcept>

#include "cpu/kernels.h"

// One namespace a version; CMake defines which were built, worst first.
#define FUSIONOPS_DECLARE_KERNEL(Result, name, Args) Result name(const Args&, const Executor&);
#define FUSIONOPS_KERNEL_ENTRY(Result, name, Args) .name = name,
#define FUSIONOPS_TABLE(set) \
  inline constexpr Kernels table{.isa = #set, FUSIONOPS_EACH_KERNEL(FUSIONOPS_KERNEL_ENTRY)};
#define FUSIONOPS_DECLARE(set)                    \
  namespace fusionops::cpu::set {                 \
  FUSIONOPS_EACH_KERNEL(FUSIONOPS_DECLARE_KERNEL) \
  FUSIONOPS_TABLE(set)                            \
  }

FUSIONOPS_DECLARE(baseline)
#ifdef FUSIONOPS_X86
FUSIONOPS_DECLARE(avx2)
FUSIONOPS_DECLARE(avx512)

// What is declared here hides its namesake of avx512; the rest is that version's.
namespace fusionops::cpu::avx512vnni {
using namespace avx512;
FUSIONOPS_EACH_DOT_KERNEL(FUSIONOPS_DECLARE_KERNEL)
FUSIONOPS_TABLE(avx512vnni)
}  // namespace fusionops::cpu::avx512vnni
#endif

namespace fusionops::cpu {
namespace {

struct Version {
  const Kernels* kernels;
  bool runs_here;
};

const std::vector<Version>& versions() {
#ifdef FUSIONOPS_X86
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                               __builtin_cpu_supports("f16c");
  static const bool has_avx512 =
      has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  static const std::vector<Version> all{
      {&baseline::table, true},
      {&avx2::table, has_avx2},
      {&avx512::table, has_avx512},
      {&avx512vnni::table,
       has_avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")}};
#else
  static const std::vector<Version> all{{&baseline::table, true}};
#endif
  return all;
}

std::vector<std::string> names(bool runnable_only) {
  std::vector<std::string> result;
  for (const Version& v : versions()) {
    if (v.runs_here || !runnable_only) result.emplace_back(v.kernels->isa);
  }
  return result;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

const Kernels& choose() {
  const char* wanted = std::getenv("FUSIONOPS_ISA");
  const Kernels* best = nullptr;
  for (const Version& v : versions()) {
    if (!v.runs_here) continue;
    if (wanted == nullptr || *wanted == '\0' || std::string(wanted) == v.kernels->isa) {
      best = v.kernels;
    }
  }
  if (best == nullptr) {
    throw std::invalid_argument("FUSIONOPS_ISA is '" + std::string(wanted) +
                                "', but this processor and build have: " + joined(runnable_isas()));
  }
  return *best;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

std::vector<std::string> built_isas() { return names(false); }
std::vector<std::string> runnable_isas() { return names(true); }

}  // namespace fusionops::cpu
