// What the machine can do at best, as rates: the bounds that benchmarks/ holds the kernels against.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <string>

#include "cpu/kernels.h"
#include "numpy_view.h"
#include "thread_pool.h"

namespace fusionops::python_face {

// The most that one of several calls did in a second: whoever shares the machine only slows it.
template <class Call>
double best_rate(double seconds, Call call) {
  using Clock = std::chrono::steady_clock;
  constexpr int kLeast = 3;
  const py::gil_scoped_release release;
  call();  // starts the helpers and touches the memory
  double best = 0, spent = 0;
  for (int done = 0; done < kLeast || spent < seconds; ++done) {
    const auto begin = Clock::now();
    const auto work = static_cast<double>(call());
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, work / took);
    spent += took;
  }
  return best;
}

inline void check_seconds(double seconds) {
  if (!(seconds >= 0 && seconds <= 600)) {
    throw py::value_error("seconds: expected 0 to 600, got " + std::to_string(seconds));
  }
}

inline double operation_rate(const std::string& dtype, std::int64_t depth, double seconds) {
  using Kind = cpu::ArithmeticProbe::Kind;
  cpu::ArithmeticProbe probe;
  if (dtype == "float64") {
    probe.kind = Kind::float64;
  } else if (dtype == "float32") {
    probe.kind = Kind::float32;
  } else if (dtype == "bfloat16") {
    probe.kind = Kind::bfloat16;
  } else if (dtype == "int8") {
    probe.kind = Kind::int8;
  } else {
    throw py::value_error("dtype: expected float64, float32, bfloat16 or int8, got '" + dtype +
                          "'");
  }
  if (depth < 0 || depth > 4096) {
    throw py::value_error("depth: expected 0 to 4096, got " + std::to_string(depth));
  }
  check_seconds(seconds);
  probe.depth = depth;
  // A call takes some milliseconds: one of 64 tiles does about as much as 64 * depth steps.
  probe.repeats = depth == 0 ? 100'000 : std::max<std::int64_t>(1, 2'000 / depth);
  const PoolExecutor executor;
  return best_rate(seconds, [&] { return cpu::kernels().arithmetic_probe(probe, executor); });
}

inline double memory_rate(const std::string& traffic, py::array buffer, double seconds) {
  using Traffic = cpu::MemoryProbe::Traffic;
  cpu::MemoryProbe probe;
  if (traffic == "read") {
    probe.traffic = Traffic::read;
  } else if (traffic == "write") {
    probe.traffic = Traffic::write;
  } else if (traffic == "copy") {
    probe.traffic = Traffic::copy;
  } else {
    throw py::value_error("traffic: expected read, write or copy, got '" + traffic + "'");
  }
  constexpr std::int64_t kLine = 64, kLeast = 4 << 20;
  auto* data = static_cast<std::byte*>(buffer.mutable_data());
  const auto skipped =
      static_cast<std::int64_t>((kLine - reinterpret_cast<std::uintptr_t>(data) % kLine) % kLine);
  if (buffer.nbytes() < kLeast || !(buffer.flags() & py::array::c_style)) {
    fail("buffer", "a contiguous array of at least 4 MiB", describe(buffer));
  }
  check_seconds(seconds);
  probe.data = data + skipped;
  probe.size = buffer.nbytes() - skipped;
  const PoolExecutor executor;
  return best_rate(seconds, [&] { return cpu::kernels().memory_probe(probe, executor); });
}

inline void define_probes(py::module_& m) {
  using namespace pybind11::literals;
  m.def("operation_rate", &operation_rate, "dtype"_a, "depth"_a = 0, "seconds"_a = 0.2,
        "Most multiplications and additions a second of all cores: in registers (depth 0), or in "
        "score tiles of this many features over panels in cache.");
  m.def("memory_rate", &memory_rate, "traffic"_a, "buffer"_a, "seconds"_a = 0.2,
        "Most bytes a second that all cores read, write or copy (both counted) in a buffer of the "
        "caller's, which should be larger than the caches and is overwritten.");
}

}  // namespace fusionops::python_face
