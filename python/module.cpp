// fusionops._native: build information, and the kernels on NumPy arrays without importing torch.
//
// The functions are the native operators of csrc/cpu/kernels.h as they stand: scales are given,
// not a normalisation. fusionops.catalog is the face for people.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "catalog.h"
#include "cpu/kernels.h"
#include "numpy_view.h"
#include "probe.h"
#include "thread_pool.h"

namespace fusionops::python_face {
namespace {

using OptionalArray = std::optional<py::array>;
using OptionalLists = std::optional<std::pair<py::array, py::array>>;

// A fresh result in the accumulation type of the inputs.
py::array accumulator_array(DType dtype, std::vector<py::ssize_t> shape) {
  if (accumulates_in_double(dtype)) return py::array_t<double>(std::move(shape));
  return py::array_t<float>(std::move(shape));
}

void check_widths(const MatrixView& user, const py::array& item, const MatrixView& view) {
  if (user.columns != view.columns) {
    fail("item", "rows of width " + std::to_string(user.columns) + " as user has", describe(item));
  }
}

py::array inverse_norm(const py::array& x, double eps) {
  cpu::InverseNormArgs args;
  args.x = matrix(x, "x");
  args.eps = eps;
  py::array out = accumulator_array(args.x.dtype, {args.x.rows});
  args.out = out.mutable_data();
  const PoolExecutor executor;
  const py::gil_scoped_release release;
  cpu::kernels().inverse_norm(args, executor);
  return out;
}

py::array fusion_matrix(const py::array& user, const py::array& item,
                        const OptionalArray& user_scale, const OptionalArray& item_scale) {
  cpu::FusionMatrixArgs args;
  args.user = matrix(user, "user");
  args.item = matrix(item, "item");
  check_same_kind(user, item, "item");
  check_widths(args.user, item, args.item);
  const auto us = scale(user_scale, args.user.rows, args.user.dtype, "user_scale");
  const auto is = scale(item_scale, args.item.rows, args.user.dtype, "item_scale");
  args.user_scale = data(us);
  args.item_scale = data(is);
  py::array out(user.dtype(), std::vector<py::ssize_t>{args.user.rows, args.item.rows});
  args.out = {out.mutable_data(), args.user.dtype, 1, args.user.rows, args.item.rows};
  const PoolExecutor executor;
  const py::gil_scoped_release release;
  cpu::kernels().fusion_matrix(args, executor);
  return out;
}

py::array fusion_contract(const py::array& left, const py::array& right,
                          const OptionalArray& scales) {
  cpu::FusionContractArgs args;
  args.left = matrix(left, "left");
  args.right = matrix(right, "right");
  check_same_kind(left, right, "right");
  if (args.left.rows != args.right.rows) {
    fail("right", std::to_string(args.left.rows) + " rows as left has", describe(right));
  }
  const auto s = scale(scales, args.left.rows, args.left.dtype, "scale");
  args.scale = data(s);
  py::array out(left.dtype(), std::vector<py::ssize_t>{args.left.columns, args.right.columns});
  args.out = {out.mutable_data(), args.left.dtype, 1, args.left.columns, args.right.columns};
  const PoolExecutor executor;
  const py::gil_scoped_release release;
  cpu::kernels().fusion_contract(args, executor);
  return out;
}

py::tuple fusion_topk(const py::array& user, const py::array& item, std::int64_t k,
                      const OptionalArray& user_scale, const OptionalArray& item_scale,
                      const OptionalArray& item_bias, const OptionalLists& exclude,
                      const OptionalArray& allowed, const OptionalLists& candidates) {
  cpu::FusionTopkArgs args;
  args.user = matrix(user, "user");
  args.item = matrix(item, "item");
  check_same_kind(user, item, "item");
  check_widths(args.user, item, args.item);
  if (k < 1) throw py::value_error("k: expected at least 1, got " + std::to_string(k));
  const std::int64_t users = args.user.rows, items = args.item.rows;
  const auto us = scale(user_scale, users, args.user.dtype, "user_scale");
  const auto is = scale(item_scale, items, args.user.dtype, "item_scale");
  const auto bias = scale(item_bias, items, args.user.dtype, "item_bias");
  const Ragged excluded(exclude, users, "exclude"), chosen(candidates, users, "candidates");
  args.k = k;
  args.user_scale = data(us);
  args.item_scale = data(is);
  args.item_bias = data(bias);
  args.exclude = excluded.view();
  args.candidates = chosen.view();
  args.allowed = mask(allowed, users, items, "allowed");
  py::array scores = accumulator_array(args.user.dtype, {users, k});
  py::array_t<std::int64_t> indices(std::vector<py::ssize_t>{users, k});
  args.scores = scores.mutable_data();
  args.indices = indices.mutable_data();
  const PoolExecutor executor;
  {
    const py::gil_scoped_release release;
    cpu::kernels().fusion_topk(args, executor);
  }
  return py::make_tuple(scores, indices);
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = FUSIONOPS_COMPILER;
  info["isas_built"] = cpu::built_isas();
  info["isas_runnable"] = cpu::runnable_isas();
  info["isa"] = cpu::kernels().isa;
  info["threads"] = configured_threads();
  return info;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  using namespace pybind11::literals;
  m.doc() = "Native kernels of fusionops on NumPy arrays, and what they were built with.";
  m.def("build_info", &build_info,
        "Compiler, instruction sets built, runnable and in use, and threads.");
  m.def("inverse_norm", &inverse_norm, "x"_a, "eps"_a = 0.0,
        "(x.x + eps)^(-1/2) of every row of x [N, D]; 0 for a row of zeros.");
  m.def("fusion_matrix", &fusion_matrix, "user"_a, "item"_a, "user_scale"_a = py::none(),
        "item_scale"_a = py::none(),
        "user [U, D] and item [P, D] -> [U, P]: (user . item) * user_scale * item_scale.");
  m.def("fusion_contract", &fusion_contract, "left"_a, "right"_a, "scale"_a = py::none(),
        "left [K, M] and right [K, N] -> [M, N]: left^T diag(scale) right.");
  m.def("fusion_topk", &fusion_topk, "user"_a, "item"_a, "k"_a, "user_scale"_a = py::none(),
        "item_scale"_a = py::none(), "item_bias"_a = py::none(), "exclude"_a = py::none(),
        "allowed"_a = py::none(), "candidates"_a = py::none(),
        "The k best items of every user -> (scores [U, k], indices [U, k]); exclude and candidates "
        "are (offsets, indices).");
  define_catalog(m);
  define_probes(m);
}

}  // namespace fusionops::python_face
