// Registers an implementation with the dispatcher, after a look at its signature.
#pragma once

#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <type_traits>

namespace fusionops::torch_face {

// The stack carries schema `float` as double and `int` as int64_t; a kernel that takes float or
// int32_t would compile and read garbage, so such a signature is refused here.
template <class T>
constexpr bool kSafeToBox = !std::is_same_v<std::remove_cvref_t<T>, float> &&
                            !(std::is_integral_v<std::remove_cvref_t<T>> &&
                              !std::is_same_v<std::remove_cvref_t<T>, int64_t> &&
                              !std::is_same_v<std::remove_cvref_t<T>, bool>);

template <class Result, class... Args>
constexpr bool safe_to_box(Result (*)(Args...)) {
  return (kSafeToBox<Args> && ...);
}

#define FUSIONOPS_IMPL_AS(library, name, function)                                    \
  static_assert(safe_to_box(&function), name ": take double and int64_t, see above"); \
  library.impl(name, TORCH_BOX(&function))

#define FUSIONOPS_IMPL(library, name) FUSIONOPS_IMPL_AS(library, #name, name)

}  // namespace fusionops::torch_face
