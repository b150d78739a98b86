// The native operators: what they take, and the table of their versions by instruction set.
//
// All are on raw memory. The caller has checked shapes and dtypes; index values are checked here,
// before any loop starts. Scales are in the accumulation type of the inputs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/executor.h"
#include "core/quantize.h"
#include "core/ragged.h"
#include "core/tensor_view.h"

namespace fusionops::cpu {

// Items of a Catalog stand in panels of this many rows, on every instruction set: a saved panel can
// be read by any. A multiple of every tile's width.
inline constexpr std::int64_t kPanelRows = 32;

// out[b, n] = (x[b, n] . x[b, n] + eps)^(-1/2), and 0 for a row of zeros.
struct InverseNormArgs {
  MatrixView x;
  double eps = 0;
  void* out = nullptr;  // [batch, rows] in the accumulation type
};

// out[b, u, p] = (user[b, u] . item[b, p]) * user_scale[b, u] * item_scale[b, p].
struct FusionMatrixArgs {
  MatrixView user, item;
  Scale user_scale = nullptr, item_scale = nullptr;
  MatrixOutput out;
};

// out[b, m, n] = sum_k left[b, k, m] * scale[b, k] * right[b, k, n].
struct FusionContractArgs {
  MatrixView left, right;
  Scale scale = nullptr;
  MatrixOutput out;
};

// The k largest of (user[u] . item[p]) * user_scale[u] * item_scale[p] + item_bias[p] over p.
struct FusionTopkArgs {
  MatrixView user, item;
  // The items as float32 panels of pack_items; then item has sizes only, and no candidates.
  const float* panels = nullptr;
  std::int64_t k = 1;
  Scale user_scale = nullptr, item_scale = nullptr, item_bias = nullptr;
  RaggedView exclude, candidates;
  MaskView allowed;
  void* scores = nullptr;           // [rows, k] in the accumulation type
  std::int64_t* indices = nullptr;  // [rows, k]
};

// The gradients of the scores of FusionTopkArgs, before the scales of the side itself:
//   user_sum[u] = sum_t grad[u, t] * item_scale[p] * item[p],   p = indices[u, t];
//   item_sum[p] = sum_(u, t) grad[u, t] * user_scale[u] * user[u];
//   bias_sum[p] = sum_(u, t) grad[u, t].
struct FusionTopkBackwardArgs {
  MatrixView user, item;
  const void* grad = nullptr;             // [rows, k] in the accumulation type
  const std::int64_t* indices = nullptr;  // [rows, k]; -1 is a padded place
  std::int64_t k = 1;
  Scale user_scale = nullptr, item_scale = nullptr;
  void *user_sum = nullptr, *item_sum = nullptr, *bias_sum = nullptr;
};

// The logits of both losses: (user[u] . item[p]) * user_scale[u] * item_scale[p] + item_bias[p].
struct LogitArgs {
  MatrixView user, item;
  Scale user_scale = nullptr, item_scale = nullptr, item_bias = nullptr;
};

// Their gradients; a null pointer where one is not wanted. The sides' are contiguous, in the dtype
// of the side, the others in the accumulation type.
struct LogitGradients {
  void *user = nullptr, *item = nullptr;
  void *user_scale = nullptr, *item_scale = nullptr, *item_bias = nullptr;
};

// loss[u] = log(sum_p exp(x[u, p])) - (1 - smoothing) x[u, target[u]] - smoothing * mean_p x[u, p]
// over the items p that are not excluded for u; its own target never is. 0 where the target is
// ignore_index.
struct FusionCrossEntropyArgs {
  LogitArgs logits;
  const std::int64_t* target = nullptr;  // [rows]
  RaggedView exclude;
  double label_smoothing = 0;
  std::int64_t ignore_index = -100;
  void* loss = nullptr;        // [rows] in the accumulation type
  void* statistics = nullptr;  // [2, rows]: peak and total, log-sum-exp = peak + log(total)
};

struct FusionCrossEntropyBackwardArgs {
  FusionCrossEntropyArgs forward;  // without loss; statistics are read
  // Tiles in which every softmax is below it, and no target stands, may be left out. 0: none are.
  double skip_below = 0;
  const void* grad = nullptr;  // [rows] in the accumulation type
  LogitGradients out;
};

// loss[i] = (log(sum_j exp(x[i, j])) + log(sum_j exp(x[j, i]))) / 2 - x[i, i], over the j that do
// not have the id of i, and i itself.
struct FusionContrastiveArgs {
  LogitArgs logits;
  const std::int64_t* ids = nullptr;  // [rows]; null: all different
  void* loss = nullptr;               // [rows] in the accumulation type
  void* statistics = nullptr;         // [4, rows]: peak and total of the rows, then of the columns
};

struct FusionContrastiveBackwardArgs {
  FusionContrastiveArgs forward;  // without loss; statistics are read
  const void* grad = nullptr;     // [rows] in the accumulation type
  LogitGradients out;
};

// One side of a co-attention, and what its tokens attend to on the other.
struct BidirectionalSide {
  MatrixView tokens, value;  // [batch, rows, D], [batch, rows, *]
  bool value_is_tokens = false;
  MaskView mask;            // [batch, rows]
  MatrixOutput fused;       // [batch, rows, *]
  void* log_sum = nullptr;  // [batch, rows], log-sum-exp in the accumulation type, +inf of nothing
};

// user.fused[b, n] = sum_m softmax_m(scale * user[b, n] . item[b, m]) item.value[b, m], and
// item.fused[b, m] = sum_n softmax_n(the same) user.value[b, n], over the tokens present.
struct BidirectionalFusionArgs {
  BidirectionalSide user, item;
  double scale = 1;
};

// The incoming gradient of a side's `fused`, and where those of its tokens and values go:
// contiguous, in the dtype of the side; a null pointer where one is not wanted. Where the values
// are the tokens, theirs is null and the tokens' is the sum of both.
struct BidirectionalGradients {
  MatrixView fused;
  void *tokens = nullptr, *value = nullptr;
};

struct BidirectionalFusionBackwardArgs {
  BidirectionalFusionArgs forward;  // fused and log_sum are read
  BidirectionalGradients user, item;
};

// Attention of Q queries over M tokens in `num_heads` heads, each on its part of the features:
//   weight[b, h, q, m] = softmax_m(scale * query[b, q] . key[b, m]), dropped out;
//   out[b, q] = sum_m weight[b, h, q, m] * value[b, m].
// Tokens and queries that a mask leaves out count as not there; zeros where nothing is.
struct AttentionFusionArgs {
  MatrixView query, key, value;  // query may have a batch of 1: all samples share it
  MaskView mask, query_mask;     // [batch, tokens] and [batch, queries]
  std::int64_t num_heads = 1;
  double scale = 1, dropout_p = 0;
  std::int64_t seed = 0;
  MatrixOutput out;
  void* weights = nullptr;  // [batch, heads, queries, tokens] in the accumulation type, or null
  void* log_sum = nullptr;  // [batch, heads, queries], the log-sum-exp; written by long_attention
};

struct AttentionFusionBackwardArgs {
  AttentionFusionArgs forward;  // out and log_sum are read by long_attention, the rest by all
  MatrixView grad;              // of out
  const void* grad_weights = nullptr;  // as weights, or null
  // Dense, in the dtype of the side; a null pointer where one is not wanted. The query's has the
  // query's own batch. Where value is key, value's is null and key's is the sum of both.
  void *query = nullptr, *key = nullptr, *value = nullptr;
  bool value_is_key = false;
};

// Whether attention_fusion leaves these sizes to its kernel for long rows, which keeps log_sum:
// where products are large enough to be matrix products, or sums are long.
inline bool is_long_attention(std::int64_t queries, std::int64_t tokens) {
  return std::min(queries, tokens) > 128 || std::max(queries, tokens) > 256;
}

// places[u, t] is the open candidate c of u, not chosen before, with the largest
//   trade_off * scores[u, c] - (1 - trade_off) * s,
// s the largest cosine of vectors[u, c] to those chosen before, 0 at first; the lowest c of equals,
// -1 where none is left. Open is what the mask admits, with a score that is neither NaN nor -inf
// and a vector without NaN and Inf. A trade_off of 0 leaves the scores out.
struct MmrRerankArgs {
  MatrixView scores;   // [users, candidates]
  MatrixView vectors;  // [users, candidates, D]
  MaskView mask;
  std::int64_t k = 1;
  double trade_off = 0.5;
  std::int64_t* places = nullptr;  // [users, k]
};

// out[b] = sum_m softmax(logits[b])[m] * values[b, m] over the tokens m that are present; 0 where
// none is, or the logits of all are -inf.
struct WeightedFusionArgs {
  MatrixView values;    // [batch, tokens, columns]
  MatrixView logits;    // [batch or 1, tokens] in the accumulation type; row_stride 0 for one row
  MaskView mask;        // [batch, tokens]
  void* out = nullptr;  // [batch, columns] in the dtype of values
};

struct WeightedFusionBackwardArgs {
  WeightedFusionArgs forward;   // without out
  MatrixView grad;              // [batch, columns] in the dtype of values
  void* grad_values = nullptr;  // contiguous, in the dtype of values; null: not wanted
  void* grad_logits =
      nullptr;  // as many rows as logits, in the accumulation type; null: not wanted
};

// out[b] = sum_t w[t] * row[t] over the entries t of history b, where row t of a history is
// values[t] or values[ids[t]], and w[t] is weights[t], softmax(row[t] . query[b] / sqrt(D)), or 1 /
// length.
struct HistoryFusionArgs {
  MatrixView values;              // [entries, columns], or with ids a table
  RaggedView histories;           // offsets, and the ids or null
  MatrixView query;               // [histories, columns] in the dtype of values; null: none
  const void* weights = nullptr;  // [entries] in the accumulation type; null: none
  void* out = nullptr;            // [histories, columns] in the dtype of values
  void* statistics = nullptr;     // [2, histories] with a query: peak and total of the softmax
};

struct HistoryFusionBackwardArgs {
  HistoryFusionArgs forward;  // without out; statistics are read, columns of query side by side
  MatrixView grad;            // [histories, columns] in the dtype of values, columns side by side
  // A null pointer where one is not wanted. Contiguous, in the dtype of values; that of the weights
  // in the accumulation type.
  void *grad_values = nullptr, *grad_query = nullptr, *grad_weights = nullptr;
};

// A Catalog's items as panels; see csrc/cpu/pack_items.cpp for their order.
struct PackItemsArgs {
  MatrixView vectors;  // float32
  Packing packing = Packing::float32;
  const float* item_scale = nullptr;  // [rows], counted into the stats
  void* panels = nullptr;             // [ceil(rows / 32), ...]
  float* stats = nullptr;             // [ceil(rows / 32), 3, 32]: step, residual norm, norm
};

// The items that scores over int8 or bfloat16 panels can't rule out of the k best.
struct PackedCandidatesArgs {
  MatrixView user;  // float32
  std::int64_t k = 1, count = 0;
  Packing packing = Packing::int8;
  const void* panels = nullptr;
  const float* stats = nullptr;
  const float* user_scale = nullptr;
  RaggedView exclude;
  MaskView allowed;
};

struct CandidateLists {
  std::vector<std::int64_t> offsets, indices;  // [users + 1], [nnz], ascending within a user
  std::vector<std::uint8_t> overflowed;        // [users]: true: no list, score everything
};

// What the machine can do at best. A probe does its work on all workers at once and returns how
// much that was: the caller takes the time.
struct ArithmeticProbe {
  enum class Kind : std::uint8_t { float64, float32, bfloat16, int8 };
  Kind kind = Kind::float32;
  std::int64_t depth = 0;    // 0: operands in registers; else in score tiles of this many features
  std::int64_t repeats = 1;  // of the loop
};
struct MemoryProbe {
  enum class Traffic : std::uint8_t { read, write, copy };
  Traffic traffic = Traffic::read;
  std::byte* data = nullptr;  // on a cache line; written to unless it is only read
  std::int64_t size = 0;      // bytes; what is left of the last MiB is not touched
};

// Every kernel: what it returns (the probes: how much work they did), its name, its arguments.
// Those with dot products of bytes or of bfloat16 pairs are apart, as only they gain from
// instructions for these.
// clang-format off
#define FUSIONOPS_EACH_DOT_KERNEL(F) \
  F(CandidateLists, packed_candidates, PackedCandidatesArgs) \
  F(std::int64_t, arithmetic_probe, ArithmeticProbe) \
  F(std::int64_t, memory_probe, MemoryProbe)
#define FUSIONOPS_EACH_KERNEL(F) \
  F(void, inverse_norm, InverseNormArgs) \
  F(void, fusion_matrix, FusionMatrixArgs) \
  F(void, fusion_contract, FusionContractArgs) \
  F(void, fusion_topk, FusionTopkArgs) \
  F(void, fusion_topk_backward, FusionTopkBackwardArgs) \
  F(void, pack_items, PackItemsArgs) \
  F(void, fusion_cross_entropy, FusionCrossEntropyArgs) \
  F(void, fusion_cross_entropy_backward, FusionCrossEntropyBackwardArgs) \
  F(void, fusion_contrastive, FusionContrastiveArgs) \
  F(void, fusion_contrastive_backward, FusionContrastiveBackwardArgs) \
  F(void, bidirectional_fusion, BidirectionalFusionArgs) \
  F(void, bidirectional_fusion_backward, BidirectionalFusionBackwardArgs) \
  F(void, attention_fusion, AttentionFusionArgs) \
  F(void, attention_fusion_backward, AttentionFusionBackwardArgs) \
  F(void, mmr_rerank, MmrRerankArgs) \
  F(void, weighted_fusion, WeightedFusionArgs) \
  F(void, weighted_fusion_backward, WeightedFusionBackwardArgs) \
  F(void, history_fusion, HistoryFusionArgs) \
  F(void, history_fusion_backward, HistoryFusionBackwardArgs) \
  FUSIONOPS_EACH_DOT_KERNEL(F)
// clang-format on

struct Kernels {
  const char* isa;
#define FUSIONOPS_KERNEL_MEMBER(Result, name, Args) Result (*name)(const Args&, const Executor&);
  FUSIONOPS_EACH_KERNEL(FUSIONOPS_KERNEL_MEMBER)
#undef FUSIONOPS_KERNEL_MEMBER
};

// The best version that this processor runs, or the one that FUSIONOPS_ISA names. Throws
// std::invalid_argument where that one is unknown or the processor lacks it.
const Kernels& kernels();

// Names of the versions that were built, and of those that this processor can run, worst first.
std::vector<std::string> built_isas();
std::vector<std::string> runnable_isas();

}  // namespace fusionops::cpu
