// Which pairs may be recommended: a mask of what is allowed, less a list of what is excluded.
#pragma once

#include <cstdint>

#include "core/ragged.h"
#include "core/tensor_view.h"

namespace fusionops {

class Admission {
 public:
  Admission(const MaskView& allowed, const RaggedView& exclude)
      : allowed_(allowed), excluded_(exclude) {}

  bool operator()(std::int64_t user, std::int64_t item) const {
    if (allowed_.present() && !allowed_(user, item)) return false;
    return !excluded_.present() || !excluded_.contains(user, item);
  }

 private:
  const MaskView allowed_;
  const SortedRagged excluded_;
};

}  // namespace fusionops
