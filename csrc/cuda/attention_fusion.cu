// attention_fusion, forward, for up to 32 queries and 32 tokens.
//
// A group of lanes (attention_unit.cuh) makes the scores of its head, one lane a query their
// softmax, and the group the sums of values. Bound: one read of query, key and value and one write
// of the result. Up to 8 queries each byte is loaded once; more queries load keys and values again
// for every 8 of them, out of the cache.
#include "cuda/attention_fusion.h"
#include "cuda/attention_softmax.cuh"
#include "cuda/attention_unit.cuh"
#include "cuda/launch.h"

namespace fusionops::cuda {
namespace {

// Scores to the weights that are applied, in place, and out where they are wanted.
__device__ void finish_weights(const AttentionFusionArgs& args, const DropoutRule& rule,
                               const AttentionCut& cut, const Unit& unit, float* table) {
  for (int q = unit.group.lane; q < cut.queries; q += unit.group.lanes) {
    float* row = table + q * cut.score_stride;
    const float log_sum =
        softmax_row(row, cut.tokens, has(unit.present_queries, q) ? unit.present_tokens : 0);
    if (!unit.live) continue;
    const std::int64_t number = (unit.sample * cut.heads + unit.head) * cut.queries + q;
    args.log_sum[number] = log_sum;
    if (args.dropout_p > 0) {
      DropoutWords dropout(rule, args.seed);
      for (int m = 0; m < cut.tokens; ++m) row[m] *= dropout.factor(number * cut.tokens + m);
    }
    if (args.weights == nullptr) continue;
    for (int m = 0; m < cut.tokens; ++m) args.weights[number * cut.tokens + m] = row[m];
  }
}

template <class T, bool kPacked, int kQueries>
__global__ void __launch_bounds__(kAttentionThreads, attention_blocks(kPacked, kQueries, false))
    attention_kernel(const AttentionFusionArgs args, const DropoutRule rule,
                     const AttentionCut cut) {
  constexpr int kSize = kPacked ? kVector<T> : 1, kTokens = 4;
  extern __shared__ float tables[];
  const Group group(cut);
  const Unit unit(args, cut, group, group.number, 0);
  float* table = tables + group.place * cut.table;
  const Rows<T> query(args.query, unit, cut.key_width, unit.present_queries);
  const Rows<T> key(args.key, unit, cut.key_width, unit.present_tokens);
  products<kSize, kQueries, kTokens>(group, query, key, static_cast<float>(args.scale), table,
                                     cut.score_stride);
  __syncwarp();
  finish_weights(args, rule, cut, unit, table);
  __syncwarp();
  const Rows<T> value(args.value, unit, cut.value_width, unit.present_tokens);
  const Result<T, kSize> out(args.out, cut.queries, args.value.columns, unit, cut.value_width,
                             unit.present_queries);
  combine<kSize, kQueries, kTokens>(group, unit.live ? cut.queries : 0, cut.value_width, out,
                                    Term<T>{table, cut.score_stride, 1, value});
}

}  // namespace

void attention_fusion(const AttentionFusionArgs& args, cudaStream_t stream) {
  const bool packed = packs_fit(args, {args.query, args.key, args.value});
  with_attention_kernel(
      args.key.dtype, packed, args.query.rows, [&]<class T, bool kPacked, int kQueries>() {
        const AttentionCut cut(args, kPacked ? kVector<T> : 1, 1);
        launch("attention_fusion", attention_kernel<T, kPacked, kQueries>, cut.blocks(),
               cut.threads, cut.shared_bytes(1), stream, args, DropoutRule(args.dropout_p), cut);
      });
}

}  // namespace fusionops::cuda
