// Ragged lists of item indices, one list a user: (offsets [rows + 1], indices [nnz]).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace fusionops {

struct RaggedView {
  const std::int64_t* offsets = nullptr;
  const std::int64_t* indices = nullptr;
  std::int64_t rows = 0, size = 0;

  bool present() const { return offsets != nullptr; }
};

// Throws std::out_of_range (an IndexError in Python) unless the offsets of `rows` lists rise from 0
// to `size`. `name` begins the message.
inline void check_offsets(const std::int64_t* offsets, std::int64_t rows, std::int64_t size,
                          const std::string& name) {
  const auto fail = [&](const std::string& what) { throw std::out_of_range(name + what); };
  if (offsets[0] != 0) fail(" must start at 0, got " + std::to_string(offsets[0]));
  for (std::int64_t i = 0; i < rows; ++i) {
    if (offsets[i + 1] < offsets[i]) {
      fail(" must not fall, got " + std::to_string(offsets[i]) + " then " +
           std::to_string(offsets[i + 1]) + " at position " + std::to_string(i + 1));
    }
  }
  if (offsets[rows] != size) {
    fail(" must end at the number of entries (" + std::to_string(size) + "), got " +
         std::to_string(offsets[rows]));
  }
}

// The same unless every index names one of `columns` items.
inline void check_indices(const std::int64_t* indices, std::int64_t size, std::int64_t columns,
                          const std::string& name) {
  for (std::int64_t i = 0; i < size; ++i) {
    if (indices[i] < 0 || indices[i] >= columns) {
      throw std::out_of_range(name + ": index " + std::to_string(indices[i]) + " at position " +
                              std::to_string(i) + " is out of range for " +
                              std::to_string(columns) + " items");
    }
  }
}

inline void check_ragged(const RaggedView& list, std::int64_t columns, const std::string& name) {
  if (!list.present()) return;
  check_offsets(list.offsets, list.rows, list.size, name + ": offsets");
  check_indices(list.indices, list.size, columns, name);
}

// The same lists with every row sorted, so that membership is a binary search. Lists that come
// sorted, as those of a CSR matrix mostly do, are used where they are.
class SortedRagged {
 public:
  explicit SortedRagged(const RaggedView& list) : offsets_(list.offsets), indices_(list.indices) {
    bool sorted = true;
    for (std::int64_t i = 0; sorted && i < list.rows; ++i) {
      sorted = std::is_sorted(list.indices + offsets_[i], list.indices + offsets_[i + 1]);
    }
    if (sorted) return;
    owned_.assign(list.indices, list.indices + list.size);
    for (std::int64_t i = 0; i < list.rows; ++i) {
      std::sort(owned_.begin() + offsets_[i], owned_.begin() + offsets_[i + 1]);
    }
    indices_ = owned_.data();
  }
  SortedRagged(const SortedRagged&) = delete;
  SortedRagged& operator=(const SortedRagged&) = delete;

  bool present() const { return offsets_ != nullptr; }

  std::span<const std::int64_t> row(std::int64_t i) const {
    return {indices_ + offsets_[i], static_cast<std::size_t>(offsets_[i + 1] - offsets_[i])};
  }

  bool contains(std::int64_t i, std::int64_t index) const {
    const auto list = row(i);
    return std::binary_search(list.begin(), list.end(), index);
  }

 private:
  const std::int64_t* offsets_;
  const std::int64_t* indices_;
  std::vector<std::int64_t> owned_;
};

}  // namespace fusionops
