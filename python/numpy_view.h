// From NumPy arrays to the kernels' views, with errors that name the argument.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "core/ragged.h"
#include "core/tensor_view.h"

namespace fusionops::python_face {

namespace py = pybind11;

inline std::string describe(const py::array& a) {
  std::string text = py::str(a.dtype()).cast<std::string>() + " [";
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(a.shape(i));
  }
  return text + "]";
}

[[noreturn]] inline void fail(const std::string& name, const std::string& expected,
                              const std::string& got) {
  throw py::value_error(name + ": expected " + expected + ", got " + got);
}

inline DType dtype_of(const py::array& a, const std::string& name) {
  const py::dtype dtype = a.dtype();
  if (dtype.kind() == 'f' && dtype.byteorder() != '>') {
    if (dtype.itemsize() == 8) return DType::float64;
    if (dtype.itemsize() == 4) return DType::float32;
    if (dtype.itemsize() == 2) return DType::float16;
  }
  throw py::type_error(name + ": expected a float64, float32 or float16 array, got " + describe(a));
}

inline std::int64_t element_stride(const py::array& a, py::ssize_t axis, const std::string& name) {
  if (a.strides(axis) % a.itemsize() != 0) {
    fail(name, "strides that are multiples of the element size", describe(a));
  }
  return a.strides(axis) / a.itemsize();
}

// A [rows, columns] array of any strides.
inline MatrixView matrix(const py::array& a, const std::string& name) {
  const DType dtype = dtype_of(a, name);
  if (a.ndim() != 2) fail(name, "2 dimensions", describe(a));
  MatrixView view;
  view.data = a.data();
  view.dtype = dtype;
  view.rows = a.shape(0);
  view.columns = a.shape(1);
  view.row_stride = element_stride(a, 0, name);
  view.column_stride = element_stride(a, 1, name);
  return view;
}

inline void check_same_kind(const py::array& a, const py::array& b, const std::string& name) {
  if (!a.dtype().is(b.dtype()) && !a.dtype().equal(b.dtype())) {
    throw py::type_error(name + ": expected the dtype of user (" +
                         py::str(a.dtype()).cast<std::string>() + "), got " + describe(b));
  }
}

// A vector of `size` scales, contiguous, in the accumulation type of `dtype`.
inline std::optional<py::array> scale(const std::optional<py::array>& a, std::int64_t size,
                                      DType dtype, const std::string& name) {
  if (!a) return std::nullopt;
  dtype_of(*a, name);
  if (a->ndim() != 1 || a->shape(0) != size) {
    fail(name, "the shape [" + std::to_string(size) + "]", describe(*a));
  }
  if (accumulates_in_double(dtype)) {
    return py::array_t<double, py::array::c_style | py::array::forcecast>(*a);
  }
  return py::array_t<float, py::array::c_style | py::array::forcecast>(*a);
}

inline const void* data(const std::optional<py::array>& a) { return a ? a->data() : nullptr; }

using Integers = py::array_t<std::int64_t, py::array::c_style>;

// A pair (offsets [rows + 1], indices [nnz]) of integer arrays; keeps the int64 copies alive.
class Ragged {
 public:
  Ragged(const std::optional<std::pair<py::array, py::array>>& lists, std::int64_t rows,
         const std::string& name) {
    if (!lists) return;
    offsets_ = integers(lists->first, name + " offsets");
    indices_ = integers(lists->second, name + " indices");
    if (offsets_.shape(0) != rows + 1) {
      fail(name, "offsets of the shape [" + std::to_string(rows + 1) + "]", describe(offsets_));
    }
    view_ = {offsets_.data(), indices_.data(), rows, indices_.shape(0)};
  }

  const RaggedView& view() const { return view_; }

 private:
  static Integers integers(const py::array& a, const std::string& name) {
    if ((a.dtype().kind() != 'i' && a.dtype().kind() != 'u') || a.ndim() != 1) {
      throw py::type_error(name + ": expected a 1-d integer array, got " + describe(a));
    }
    return Integers::ensure(a);
  }

  Integers offsets_, indices_;
  RaggedView view_;
};

inline MaskView mask(const std::optional<py::array>& a, std::int64_t rows, std::int64_t columns,
                     const std::string& name) {
  if (!a) return {};
  if (a->dtype().kind() != 'b') {
    throw py::type_error(name + ": expected a bool array, got " + describe(*a));
  }
  const bool fits = (a->ndim() == 1 && a->shape(0) == columns) ||
                    (a->ndim() == 2 && a->shape(0) == rows && a->shape(1) == columns);
  if (!fits) {
    fail(name,
         "the shape [" + std::to_string(columns) + "] or [" + std::to_string(rows) + ", " +
             std::to_string(columns) + "]",
         describe(*a));
  }
  return {static_cast<const std::uint8_t*>(a->data()), a->ndim() == 2 ? a->strides(0) : 0,
          a->strides(a->ndim() - 1)};
}

}  // namespace fusionops::python_face
