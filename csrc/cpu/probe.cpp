// What this machine can do at best: the bounds that the benchmarks hold the kernels against.
//
// Arithmetic: the step of a score (Dot<E>) with every operand in a register, or inside the score
// tile over packed panels that fit in cache. Memory: one pass over a buffer of the caller's, read,
// written past the caches, or copied. All cores work at once, as they do in a kernel.
#include <algorithm>
#include <bit>
#include <type_traits>

#include "cpu/kernels.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr int kTasksPerWorker = 8;  // so that a helper that wakes late does not leave a core idle

template <class T>
T element(int x) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    return to_bfloat16(static_cast<float>(x));
  } else {
    return static_cast<T>(x);
  }
}

// Enough independent chains to hide the latency of a step; with the operand they stay in registers.
constexpr int kChains = kRegisters == 32 ? 24 : 12;

// The sum is an operand, too: otherwise, where a step is several instructions, a compiler would
// take the product out of the loop. A right side of -2 makes a float change its sign.
template <class E>
void step_in_registers(std::int64_t steps, const typename Dot<E>::Right* right,
                       typename Dot<E>::Sum* out) {
  using D = Dot<E>;
  using V = Vec<typename D::Sum>;
  const auto operand = D::load(right);
  V sums[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) sums[i] = V::broadcast(static_cast<typename D::Sum>(1 + i));
  for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) {
      sums[i] = D::step(std::bit_cast<typename D::Word>(sums[i]), operand, sums[i]);
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) sums[i].store(out + i * V::kSize);
}

template <class E>
std::int64_t registers(std::int64_t steps, const Executor& executor) {
  using D = Dot<E>;
  constexpr int kSize = Vec<typename D::Sum>::kSize;
  typename D::Right right[kSize * D::kGroup];
  std::ranges::fill(right, element<typename D::Right>(-2));
  Scratch<typename D::Sum> out(executor.workers(), kChains * kSize);
  const std::int64_t tasks = executor.workers() * kTasksPerWorker;
  executor.run(
      tasks, [&](std::int64_t, int worker) { step_in_registers<E>(steps, right, out.of(worker)); });
  return tasks * steps * kChains * kSize * D::kGroup * 2;
}

// As the kernels use it: panels of the left side against panels of the right, a tile at a time.
template <class E>
std::int64_t tiles(std::int64_t depth, std::int64_t repeats, const Executor& executor) {
  using D = Dot<E>;
  using T = Tile<E>;
  constexpr std::int64_t kPanels = 8;
  const std::int64_t steps = ceil_div(depth, T::kGroup);
  const std::int64_t left_panel = steps * T::kHeight * T::kGroup;
  const std::int64_t right_panel = steps * T::kWidth * T::kGroup;
  Scratch<typename D::Left> left(executor.workers(), kPanels * left_panel);
  Scratch<typename D::Right> right(executor.workers(), kPanels * right_panel);
  Scratch<typename D::Sum> out(executor.workers(), T::kHeight * T::kWidth);
  for (int worker = 0; worker < executor.workers(); ++worker) {
    std::fill_n(left.of(worker), kPanels * left_panel, element<typename D::Left>(1));
    std::fill_n(right.of(worker), kPanels * right_panel, element<typename D::Right>(1));
  }
  const std::int64_t tasks = executor.workers() * kTasksPerWorker;
  executor.run(tasks, [&](std::int64_t, int worker) {
    const StoreTile<E> store{out.of(worker)};
    for (std::int64_t r = 0; r < repeats; ++r) {
      for (std::int64_t p = 0; p < kPanels; ++p) {
        const RightSide<E> columns{right.of(worker) + p * right_panel};
        for (std::int64_t q = 0; q < kPanels; ++q) {
          const PackedLeft<E> rows{left.of(worker) + q * left_panel};
          multiply<E>(rows, columns, steps, T::kHeight, store);
        }
      }
    }
  });
  return tasks * repeats * kPanels * kPanels * T::kHeight * T::kWidth * steps * T::kGroup * 2;
}

template <class E>
std::int64_t run(const ArithmeticProbe& probe, const Executor& executor) {
  if (probe.depth == 0) return registers<E>(probe.repeats, executor);
  return tiles<E>(probe.depth, probe.repeats, executor);
}

constexpr std::int64_t kChunk = 1 << 20;  // bytes of a task: long enough for the prefetchers
using Word = Vec<std::int32_t>;
constexpr std::int64_t kWord = sizeof(Word);

// The sum is kept so that the loads are; integers, as no bit pattern of theirs is slow.
void read(const std::byte* data, std::int64_t size, std::int32_t* out) {
  constexpr int kSums = 8;
  Word sums[kSums];
  for (Word& sum : sums) sum = Word::broadcast(0);
  for (std::int64_t i = 0; i < size; i += kSums * kWord) {
    for (int j = 0; j < kSums; ++j) sums[j] = sums[j] + Word::load(data + i + j * kWord);
  }
  for (int j = 1; j < kSums; ++j) sums[0] = sums[0] + sums[j];
  sums[0].store(out);
}

void write(std::byte* data, std::int64_t size) {
  using V = Vec<float>;
  for (std::int64_t i = 0; i < size; i += sizeof(V)) {
    V::broadcast(1).stream(reinterpret_cast<float*>(data + i));
  }
  finish_streaming();
}

void copy(const std::byte* source, std::int64_t size, std::byte* out) {
  using V = Vec<float>;
  for (std::int64_t i = 0; i < size; i += sizeof(V)) {
    V::load(reinterpret_cast<const float*>(source + i)).stream(reinterpret_cast<float*>(out + i));
  }
  finish_streaming();
}

}  // namespace

std::int64_t arithmetic_probe(const ArithmeticProbe& probe, const Executor& executor) {
  switch (probe.kind) {
    case ArithmeticProbe::Kind::float64:
      return run<double>(probe, executor);
    case ArithmeticProbe::Kind::bfloat16:
      return run<bfloat16>(probe, executor);
    case ArithmeticProbe::Kind::int8:
      return run<std::int8_t>(probe, executor);
    default:
      return run<float>(probe, executor);
  }
}

std::int64_t memory_probe(const MemoryProbe& probe, const Executor& executor) {
  const bool copies = probe.traffic == MemoryProbe::Traffic::copy;
  const std::int64_t half = copies ? probe.size / 2 : probe.size;
  const std::int64_t chunks = half / kChunk;
  std::byte* target = probe.data + chunks * kChunk;
  Scratch<std::int32_t> sums(executor.workers(), Word::kSize);
  executor.run(chunks, [&](std::int64_t chunk, int worker) {
    std::byte* data = probe.data + chunk * kChunk;
    switch (probe.traffic) {
      case MemoryProbe::Traffic::read:
        return read(data, kChunk, sums.of(worker));
      case MemoryProbe::Traffic::write:
        return write(data, kChunk);
      case MemoryProbe::Traffic::copy:
        return copy(data, kChunk, target + chunk * kChunk);
    }
  });
  return chunks * kChunk * (copies ? 2 : 1);
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
