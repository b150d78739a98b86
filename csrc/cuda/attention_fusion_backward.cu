// attention_fusion, backward, for up to 32 queries and 32 tokens.
//
// The group of a head makes the scores and the products of incoming gradients with values, one lane
// a query the softmax and the gradient toward its scores, and the group the sums that are the
// gradients: each is written once. The softmax is made anew, which takes less than reading it
// would, and is that of the forward pass to the last bit. Bound: one read of query, key, value and
// gradient, and one write of theirs.
//
// The gradient of a query that all samples share is summed in parts, of some samples each by one
// group in turn, and the parts by a second kernel: in the same order on every run.
#include "cuda/attention_fusion.h"
#include "cuda/attention_softmax.cuh"
#include "cuda/attention_unit.cuh"
#include "cuda/launch.h"

namespace fusionops::cuda {
namespace {

// Scores to the weights that were applied, and gradients of those, `slopes`, to the gradients of
// scores before their scale; in place.
__device__ void weights_backward(const AttentionFusionBackwardArgs& args, const DropoutRule& rule,
                                 const AttentionCut& cut, const Unit& unit, float* table,
                                 float* slope_table) {
  const AttentionFusionArgs& forward = args.forward;
  for (int q = unit.group.lane; q < cut.queries; q += unit.group.lanes) {
    float *weights = table + q * cut.score_stride, *slopes = slope_table + q * cut.score_stride;
    const unsigned present = has(unit.present_queries, q) ? unit.present_tokens : 0;
    softmax_row(weights, cut.tokens, present);
    const std::int64_t number =
        ((unit.sample * cut.heads + unit.head) * cut.queries + q) * cut.tokens;
    if (args.grad_weights != nullptr) {
      for (int m = 0; m < cut.tokens; ++m) {
        if (has(present, m)) slopes[m] += args.grad_weights[number + m];
      }
    }
    const bool drops = forward.dropout_p > 0;
    DropoutWords dropout(rule, forward.seed);
    float mean = 0;
    for (int m = 0; m < cut.tokens; ++m) {
      if (drops) slopes[m] *= dropout.factor(number + m);
      if (has(present, m)) mean = fmaf(weights[m], slopes[m], mean);
    }
    for (int m = 0; m < cut.tokens; ++m) {
      const float slope = weights[m] * (slopes[m] - mean) * static_cast<float>(forward.scale);
      slopes[m] = has(present, m) ? slope : 0;  // a mean that is NaN stays with what is present
      if (drops) weights[m] *= dropout.factor(number + m);
    }
  }
}

__host__ __device__ bool sums_query(const AttentionFusionBackwardArgs& args) {
  return args.query != nullptr && args.forward.query.batch == 1 && args.forward.key.batch != 1;
}

// A part of the gradient of a shared query, [queries, columns]: started by the first sample.
template <int kSize>
struct QueryPart {
  __device__ void operator()(int row, int element, float (&x)[kSize]) const {
    float* at = data + row * columns + element;
#pragma unroll
    for (int e = 0; e < kSize; ++e) {
      const float own = has(present, row) ? x[e] : 0;
      at[e] = first ? own : at[e] + own;
    }
  }

  float* data;
  std::int64_t columns;
  unsigned present;
  bool first;
};

template <class T, int kSize, int kQueries>
__device__ void query_gradient(const AttentionFusionBackwardArgs& args, const AttentionCut& cut,
                               const Unit& unit, const Term<T>& keys, std::int64_t step) {
  const int queries = unit.live ? cut.queries : 0;
  const std::int64_t columns = args.forward.query.columns;
  if (sums_query(args)) {
    const std::int64_t part = unit.sample / cut.samples;
    float* data = args.query_parts + part * cut.queries * columns +
                  static_cast<std::int64_t>(unit.head) * cut.key_width;
    const QueryPart<kSize> out{data, columns, unit.present_queries, step == 0};
    combine<kSize, kQueries, 4>(unit.group, queries, cut.key_width, out, keys);
  } else if (args.query != nullptr) {
    const Result<T, kSize> out(args.query, cut.queries, columns, unit, cut.key_width,
                               unit.present_queries);
    combine<kSize, kQueries, 4>(unit.group, queries, cut.key_width, out, keys);
  }
}

template <class T, int kSize, int kQueries>
__device__ void token_gradients(const AttentionFusionBackwardArgs& args, const AttentionCut& cut,
                                const Unit& unit, const Term<T>& queries, const Term<T>& grads) {
  constexpr int kTokens = kQueries > 4 ? kQueries : 4, kSome = kQueries > 1 ? 2 : 1;
  const int tokens = unit.live ? cut.tokens : 0;
  if (args.key != nullptr) {
    const Result<T, kSize> out(args.key, cut.tokens, args.forward.key.columns, unit, cut.key_width,
                               unit.present_tokens);
    if (args.value_is_key) {
      combine<kSize, kTokens, kSome>(unit.group, tokens, cut.key_width, out, queries, grads);
    } else {
      combine<kSize, kTokens, kSome>(unit.group, tokens, cut.key_width, out, queries);
    }
  }
  if (args.value != nullptr) {
    const Result<T, kSize> out(args.value, cut.tokens, args.forward.value.columns, unit,
                               cut.value_width, unit.present_tokens);
    combine<kSize, kTokens, kSome>(unit.group, tokens, cut.value_width, out, grads);
  }
}

template <class T, bool kPacked, int kQueries>
__global__ void __launch_bounds__(kAttentionThreads, attention_blocks(kPacked, kQueries, true))
    attention_backward_kernel(const AttentionFusionBackwardArgs args, const DropoutRule rule,
                              const AttentionCut cut) {
  constexpr int kSize = kPacked ? kVector<T> : 1;
  extern __shared__ float tables[];
  const Group group(cut);
  float* weights = tables + 2 * group.place * cut.table;
  float* slopes = weights + cut.table;
  const AttentionFusionArgs& forward = args.forward;
#pragma unroll 1
  for (std::int64_t step = 0; step < cut.samples; ++step) {
    const Unit unit(forward, cut, group, group.number, step);
    const Rows<T> query(forward.query, unit, cut.key_width, unit.present_queries);
    const Rows<T> key(forward.key, unit, cut.key_width, unit.present_tokens);
    const Rows<T> value(forward.value, unit, cut.value_width, unit.present_tokens);
    const Rows<T> grad(args.grad, unit, cut.value_width, unit.present_queries);
    const auto scale = static_cast<float>(forward.scale);
    products<kSize, kQueries, 4>(group, query, key, scale, weights, cut.score_stride);
    products<kSize, kQueries, 4>(group, grad, value, 1, slopes, cut.score_stride);
    __syncwarp();
    weights_backward(args, rule, cut, unit, weights, slopes);
    __syncwarp();
    query_gradient<T, kSize, kQueries>(args, cut, unit, {slopes, cut.score_stride, 1, key}, step);
    token_gradients<T, kSize, kQueries>(args, cut, unit, {slopes, 1, cut.score_stride, query},
                                        {weights, 1, cut.score_stride, grad});
    __syncwarp();  // before the next sample's scores
  }
}

constexpr int kColumns = 32, kRuns = 32;  // of a block of the kernel below

// out[i] = sum of parts[p, i]: of each 32nd part in turn, and of those sums.
template <class T>
__global__ void __launch_bounds__(kColumns* kRuns)
    sum_parts_kernel(const float* parts, std::int64_t count, std::int64_t size, T* out) {
  __shared__ float runs[kRuns][kColumns];
  const int column = threadIdx.x % kColumns, run = threadIdx.x / kColumns;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kColumns + column;
  float sum = 0;
  if (i < size) {
#pragma unroll 8
    for (std::int64_t p = run; p < count; p += kRuns) sum += parts[p * size + i];
  }
  runs[run][column] = sum;
  __syncthreads();
  if (run != 0 || i >= size) return;
#pragma unroll
  for (int r = 1; r < kRuns; ++r) sum += runs[r][column];
  out[i] = narrow<T>(sum);
}

template <class T>
void sum_parts(const AttentionFusionBackwardArgs& args, cudaStream_t stream) {
  const std::int64_t size = args.forward.query.rows * args.forward.query.columns;
  launch("attention_fusion_backward", sum_parts_kernel<T>,
         static_cast<unsigned>((size + kColumns - 1) / kColumns), kColumns * kRuns, 0, stream,
         args.query_parts, attention_fusion_parts(args), size, static_cast<T*>(args.query));
}

// Samples that one group computes: parts enough for all of a GPU, of little memory beside the
// sides.
std::int64_t samples_of_group(const AttentionFusionBackwardArgs& args) {
  if (!sums_query(args)) return 1;
  constexpr std::int64_t kMostParts = 4096, kLeastParts = 128, kFloats = 1 << 22;
  const MatrixView& query = args.forward.query;
  const std::int64_t size = std::max<std::int64_t>(1, query.rows * query.columns);
  const std::int64_t parts = std::clamp(kFloats / size, kLeastParts, kMostParts);
  return std::max<std::int64_t>(1, (args.forward.key.batch + parts - 1) / parts);
}

}  // namespace

std::int64_t attention_fusion_parts(const AttentionFusionBackwardArgs& args) {
  const std::int64_t samples = samples_of_group(args);
  return sums_query(args) ? (args.forward.key.batch + samples - 1) / samples : 0;
}

void attention_fusion_backward(const AttentionFusionBackwardArgs& args, cudaStream_t stream) {
  const AttentionFusionArgs& forward = args.forward;
  const bool packed = packs_fit(forward, {forward.query, forward.key, forward.value, args.grad});
  with_attention_kernel(
      forward.key.dtype, packed, forward.query.rows, [&]<class T, bool kPacked, int kQueries>() {
        const AttentionCut cut(forward, kPacked ? kVector<T> : 1, 2, samples_of_group(args));
        launch("attention_fusion_backward", attention_backward_kernel<T, kPacked, kQueries>,
               cut.blocks(), cut.threads, cut.shared_bytes(2), stream, args,
               DropoutRule(forward.dropout_p), cut);
        if (sums_query(args)) sum_parts<T>(args, stream);
      });
}

}  // namespace fusionops::cuda
