// Atomics: threads take turns, so reading and writing back is one step.
#pragma once

#include <algorithm>

#include "real.h"

namespace emulator {

template <class T>
inline T read_as(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T, class F>
inline T exchange(char* at, F&& f) {
  const T before = read_as<T>(at);
  const T after = f(before);
  std::memcpy(at, &after, sizeof after);
  return before;
}

template <class T>
inline T atomic_add(char* at, T v) {
  return exchange<T>(at, [=](T x) {
    if constexpr (is_real<T> || is_pair<T>) {
      return real_add(x, v);
    } else {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<U>(x) + static_cast<U>(v));
    }
  });
}

template <class T>
inline T atomic_min(char* at, T v) {
  return exchange<T>(at, [=](T x) { return v < x ? v : x; });
}
template <class T>
inline T atomic_max(char* at, T v) {
  return exchange<T>(at, [=](T x) { return x < v ? v : x; });
}
template <class T>
inline T atomic_and(char* at, T v) {
  return exchange<T>(at, [=](T x) { return static_cast<T>(x & v); });
}
template <class T>
inline T atomic_or(char* at, T v) {
  return exchange<T>(at, [=](T x) { return static_cast<T>(x | v); });
}
template <class T>
inline T atomic_xor(char* at, T v) {
  return exchange<T>(at, [=](T x) { return static_cast<T>(x ^ v); });
}
template <class T>
inline T atomic_exch(char* at, T v) {
  return exchange<T>(at, [=](T) { return v; });
}
template <class T>
inline T atomic_inc(char* at, T v) {
  return exchange<T>(at, [=](T x) { return x >= v ? T(0) : static_cast<T>(x + 1); });
}
template <class T>
inline T atomic_dec(char* at, T v) {
  return exchange<T>(at, [=](T x) { return x == 0 || x > v ? v : static_cast<T>(x - 1); });
}
template <class T>
inline T atomic_cas(char* at, T expected, T v) {
  return exchange<T>(at, [=](T x) { return x == expected ? v : x; });
}

}  // namespace emulator
