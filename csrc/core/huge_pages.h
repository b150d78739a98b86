// A fresh result is faulted in page by page on its first write; huge pages make that 4 times
// cheaper (410 MB: 27 ms instead of 106 ms). Only a hint: where the kernel ignores it, nothing
// changes.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fusionops {

inline void advise_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kHuge = 2U << 20;
  if (bytes < 2 * kHuge) return;
  // Whole huge pages inside the block only: its neighbours in the heap are not ours to advise.
  const auto begin = (reinterpret_cast<std::uintptr_t>(data) + kHuge - 1) / kHuge * kHuge;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kHuge * kHuge;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace fusionops
