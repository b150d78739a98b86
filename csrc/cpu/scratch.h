// Scratch memory of a kernel call: one piece a worker, on cache-line boundaries, allocated before
// the tasks start so that running out of memory is an exception there and not in a thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace fusionops::cpu {

template <class T>
class Scratch {
 public:
  Scratch(int workers, std::int64_t elements)
      : stride_((elements + kLine - 1) / kLine * kLine),
        data_(static_cast<T*>(::operator new(
            sizeof(T) * static_cast<std::size_t>(stride_ * workers), std::align_val_t{64}))) {}

  T* of(int worker) { return data_.get() + stride_ * worker; }
  const T* of(int worker) const { return data_.get() + stride_ * worker; }

 private:
  static constexpr std::int64_t kLine = 64;  // elements; keeps neighbours off each other's lines
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::int64_t stride_;
  std::unique_ptr<T, Free> data_;
};

}  // namespace fusionops::cpu
