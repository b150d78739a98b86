// The Catalog's kernels on NumPy arrays: packing into the caller's arrays, which may be mapped
// files, and searching over them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/kernels.h"
#include "numpy_view.h"
#include "thread_pool.h"

namespace fusionops::python_face {

// What panels of a packing look like: [panels, words, 32(, group)].
struct PanelForm {
  Packing packing;
  char kind;
  py::ssize_t size, group;

  static PanelForm of(const std::string& dtype) {
    if (dtype == "float32") return {Packing::float32, 'f', 4, 1};
    if (dtype == "bfloat16") return {Packing::bfloat16, 'u', 2, 2};
    if (dtype == "int8") return {Packing::int8, 'u', 1, 4};
    throw py::value_error("dtype: expected 'float32', 'bfloat16' or 'int8', got '" + dtype + "'");
  }

  void check(const py::array& panels, std::int64_t count, std::int64_t depth) const {
    const std::int64_t rows = (count + cpu::kPanelRows - 1) / cpu::kPanelRows;
    const std::int64_t words = (depth + group - 1) / group;
    const bool fits = panels.dtype().kind() == kind && panels.itemsize() == size &&
                      panels.ndim() == (group == 1 ? 3 : 4) && panels.shape(0) == rows &&
                      panels.shape(1) == words && panels.shape(2) == cpu::kPanelRows &&
                      (group == 1 || panels.shape(3) == group);
    if (!fits || !(panels.flags() & py::array::c_style)) {
      fail("panels",
           "a contiguous array of " + std::to_string(8 * size) + "-bit elements and shape [" +
               std::to_string(rows) + ", " + std::to_string(words) + ", 32" +
               (group == 1 ? "" : ", " + std::to_string(group)) + "]",
           describe(panels));
    }
    constexpr std::int64_t kMostBytes = 65536;
    if (packing == Packing::int8 && depth > kMostBytes) {
      throw py::value_error("vectors: expected at most 65536 features for int8, got " +
                            std::to_string(depth));
    }
  }
};

inline void check_stats(const py::array& stats, std::int64_t count) {
  const std::int64_t rows = (count + cpu::kPanelRows - 1) / cpu::kPanelRows;
  const bool fits = stats.dtype().kind() == 'f' && stats.itemsize() == 4 && stats.ndim() == 3 &&
                    stats.shape(0) == rows && stats.shape(1) == 3 &&
                    stats.shape(2) == cpu::kPanelRows && (stats.flags() & py::array::c_style);
  if (!fits) {
    fail("stats", "a contiguous float32 array of shape [" + std::to_string(rows) + ", 3, 32]",
         describe(stats));
  }
}

inline MatrixView float_matrix(const py::array& a, const std::string& name) {
  const MatrixView view = matrix(a, name);
  if (view.dtype != DType::float32) {
    throw py::type_error(name + ": expected a float32 array, got " + describe(a));
  }
  return view;
}

inline void pack_items(const py::array& vectors, const std::string& dtype, py::array& panels,
                       std::optional<py::array>& stats,
                       const std::optional<py::array>& item_scale) {
  const PanelForm form = PanelForm::of(dtype);
  cpu::PackItemsArgs args;
  args.vectors = float_matrix(vectors, "vectors");
  form.check(panels, args.vectors.rows, args.vectors.columns);
  const auto scales = scale(item_scale, args.vectors.rows, DType::float32, "item_scale");
  args.packing = form.packing;
  args.item_scale = static_cast<const float*>(data(scales));
  args.panels = panels.mutable_data();
  if (form.packing != Packing::float32) {
    if (!stats) throw py::value_error("stats: expected an array for " + dtype + ", got None");
    check_stats(*stats, args.vectors.rows);
    args.stats = static_cast<float*>(stats->mutable_data());
  }
  const PoolExecutor executor;
  const py::gil_scoped_release release;
  cpu::kernels().pack_items(args, executor);
}

inline py::tuple packed_topk(const py::array& user, std::int64_t k, const py::array& panels,
                             std::int64_t count, const std::optional<py::array>& user_scale,
                             const std::optional<py::array>& item_scale,
                             const std::optional<std::pair<py::array, py::array>>& exclude,
                             const std::optional<py::array>& allowed) {
  cpu::FusionTopkArgs args;
  args.user = float_matrix(user, "user");
  PanelForm::of("float32").check(panels, count, args.user.columns);
  if (k < 1) throw py::value_error("k: expected at least 1, got " + std::to_string(k));
  args.item.rows = count;
  args.item.columns = args.user.columns;
  args.panels = static_cast<const float*>(panels.data());
  args.k = k;
  const auto us = scale(user_scale, args.user.rows, DType::float32, "user_scale");
  const auto is = scale(item_scale, count, DType::float32, "item_scale");
  const Ragged excluded(exclude, args.user.rows, "exclude");
  args.user_scale = data(us);
  args.item_scale = data(is);
  args.exclude = excluded.view();
  args.allowed = mask(allowed, args.user.rows, count, "allowed");
  py::array_t<float> scores(std::vector<py::ssize_t>{args.user.rows, k});
  py::array_t<std::int64_t> positions(std::vector<py::ssize_t>{args.user.rows, k});
  args.scores = scores.mutable_data();
  args.indices = positions.mutable_data();
  const PoolExecutor executor;
  {
    const py::gil_scoped_release release;
    cpu::kernels().fusion_topk(args, executor);
  }
  return py::make_tuple(scores, positions);
}

inline py::tuple packed_candidates(const py::array& user, std::int64_t k, const std::string& dtype,
                                   const py::array& panels, const py::array& stats,
                                   std::int64_t count, const std::optional<py::array>& user_scale,
                                   const std::optional<std::pair<py::array, py::array>>& exclude,
                                   const std::optional<py::array>& allowed) {
  const PanelForm form = PanelForm::of(dtype);
  if (form.packing == Packing::float32) {
    throw py::value_error("dtype: expected 'int8' or 'bfloat16', got 'float32'");
  }
  cpu::PackedCandidatesArgs args;
  args.user = float_matrix(user, "user");
  form.check(panels, count, args.user.columns);
  check_stats(stats, count);
  if (k < 1) throw py::value_error("k: expected at least 1, got " + std::to_string(k));
  args.k = k;
  args.count = count;
  args.packing = form.packing;
  args.panels = panels.data();
  args.stats = static_cast<const float*>(stats.data());
  const auto us = scale(user_scale, args.user.rows, DType::float32, "user_scale");
  const Ragged excluded(exclude, args.user.rows, "exclude");
  args.user_scale = static_cast<const float*>(data(us));
  args.exclude = excluded.view();
  args.allowed = mask(allowed, args.user.rows, count, "allowed");
  const PoolExecutor executor;
  cpu::CandidateLists lists;
  {
    const py::gil_scoped_release release;
    lists = cpu::kernels().packed_candidates(args, executor);
  }
  const auto integers = [](const std::vector<std::int64_t>& v) {
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(v.size()), v.data());
  };
  py::array_t<bool> overflowed(static_cast<py::ssize_t>(lists.overflowed.size()));
  std::copy(lists.overflowed.begin(), lists.overflowed.end(), overflowed.mutable_data());
  return py::make_tuple(integers(lists.offsets), integers(lists.indices), overflowed);
}

inline void define_catalog(py::module_& m) {
  using namespace pybind11::literals;
  m.def(
      "pack_items", &pack_items, "vectors"_a, "dtype"_a, "panels"_a, "stats"_a = py::none(),
      "item_scale"_a = py::none(),
      "Write vectors [P, D] float32 as panels of 32 items, and the error bounds of reduced ones.");
  m.def("packed_topk", &packed_topk, "user"_a, "k"_a, "panels"_a, "count"_a,
        "user_scale"_a = py::none(), "item_scale"_a = py::none(), "exclude"_a = py::none(),
        "allowed"_a = py::none(), "fusion_topk over float32 panels -> (scores, positions).");
  m.def("packed_candidates", &packed_candidates, "user"_a, "k"_a, "dtype"_a, "panels"_a, "stats"_a,
        "count"_a, "user_scale"_a = py::none(), "exclude"_a = py::none(), "allowed"_a = py::none(),
        "What int8 or bfloat16 panels cannot rule out of the k best -> (offsets [U + 1], positions "
        "[nnz], overflowed [U]).");
}

}  // namespace fusionops::python_face
