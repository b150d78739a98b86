// The CPU implementation of mmr_rerank: unpack tensors, allocate the result, call the kernel.
#include <torch/csrc/stable/library.h>

#include "cpu/kernels.h"
#include "torch/box.h"
#include "torch/executor.h"
#include "torch/unpack.h"

namespace fusionops::torch_face {
namespace {

Tensor mmr_rerank(const Tensor& scores, const Tensor& vectors, int64_t k, double trade_off,
                  const OptionalTensor& mask_of) {
  cpu::MmrRerankArgs args;
  args.scores = matrix(scores, 2, "scores");
  args.vectors = matrix(vectors, 3, "vectors");
  const int64_t users = args.vectors.batch, candidates = args.vectors.rows;
  STD_TORCH_CHECK(args.scores.rows == users && args.scores.columns == candidates,
                  "scores must have the shape [", users, ", ", candidates, "]");
  STD_TORCH_CHECK(k >= 1, "k must be at least 1, got ", k);
  args.k = k;
  STD_TORCH_CHECK(trade_off >= 0 && trade_off <= 1, "trade_off must be in [0, 1]");
  args.trade_off = trade_off;
  args.mask = mask(mask_of, users, candidates, "mask");
  Tensor places = empty<2>({users, k}, ScalarType::Long);
  args.places = static_cast<int64_t*>(places.mutable_data_ptr());
  cpu::kernels().mmr_rerank(args, TorchExecutor());
  return places;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fusionops, CPU, m) { FUSIONOPS_IMPL(m, mmr_rerank); }

}  // namespace fusionops::torch_face
