// The probes do the work that they count, and touch no memory beyond what they are given.
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "check.h"
#include "cpu/kernels.h"
#include "thread_pool.h"

using namespace fusionops;

namespace {

struct Free {
  void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t{64}); }
};

std::unique_ptr<std::byte, Free> aligned_bytes(std::size_t size) {
  return std::unique_ptr<std::byte, Free>(
      static_cast<std::byte*>(::operator new(size, std::align_val_t{64})));
}

}  // namespace

TEST(arithmetic_probe_counts_in_proportion) {
  using Kind = cpu::ArithmeticProbe::Kind;
  const python_face::PoolExecutor executor;
  for (const Kind kind : {Kind::float64, Kind::float32, Kind::bfloat16, Kind::int8}) {
    for (const std::int64_t depth : {0, 1, 7, 64, 300}) {
      const auto once = cpu::kernels().arithmetic_probe({kind, depth, 1}, executor);
      const auto thrice = cpu::kernels().arithmetic_probe({kind, depth, 3}, executor);
      CHECK(once > 0);
      CHECK(thrice == 3 * once);
    }
  }
}

TEST(memory_probe_copies_whole_chunks) {
  using Traffic = cpu::MemoryProbe::Traffic;
  constexpr std::int64_t kChunk = 1 << 20, kSize = 5 * kChunk + 4096;
  const python_face::PoolExecutor executor;
  const auto buffer = aligned_bytes(kSize);
  std::memset(buffer.get(), 1, 2 * kChunk);
  std::memset(buffer.get() + 2 * kChunk, 2, kSize - 2 * kChunk);
  CHECK(cpu::kernels().memory_probe({Traffic::read, buffer.get(), kSize}, executor) == 5 * kChunk);
  CHECK(cpu::kernels().memory_probe({Traffic::copy, buffer.get(), kSize}, executor) == 4 * kChunk);
  CHECK(std::memcmp(buffer.get(), buffer.get() + 2 * kChunk, 2 * kChunk) == 0);
  CHECK(buffer.get()[4 * kChunk] == std::byte{2});  // beyond the two whole chunks of each half
  CHECK(cpu::kernels().memory_probe({Traffic::write, buffer.get(), kSize}, executor) == 5 * kChunk);
  CHECK(buffer.get()[5 * kChunk - 1] != std::byte{1});
  CHECK(buffer.get()[5 * kChunk] == std::byte{2});
}
