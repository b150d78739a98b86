// attention_fusion over many tokens or of many queries, where products are matrix products: called
// by attention_fusion.cpp. And what its two passes share.
#pragma once

#include "cpu/philox.h"
#include "cpu/score_blocks.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

void long_attention(const AttentionFusionArgs& args, const Executor& executor);
void long_attention_backward(const AttentionFusionBackwardArgs& args, const Executor& executor);

// The arguments head by head, and the sizes of the blocks.
template <class T>
class AttentionHeads {
 public:
  AttentionHeads(const AttentionFusionArgs& args, std::int64_t block_bytes)
      : batch(args.key.batch),
        heads(args.num_heads),
        queries(args.query.rows),
        tokens(args.key.rows),
        depth(args.key.columns / heads),
        value_depth(args.value.columns / heads),
        value_width(round_up(value_depth, Tile<T>::kWidth)),
        args_(args),
        query_(args.query) {
    if (query_.batch == 1) query_.batch_stride = 0;
    const std::int64_t widest = std::max(depth, value_width);
    most_rows = rows_per_block<T>(widest, block_bytes, Tile<T>::kHeight, kGroupRows);
    block_columns =
        even_part(tokens, rows_per_block<T>(widest, block_bytes, Tile<T>::kWidth, kBlockColumns),
                  Tile<T>::kWidth);
  }

  MatrixView query(std::int64_t h) const { return head(query_, h); }
  MatrixView key(std::int64_t h) const { return head(args_.key, h); }
  MatrixView value(std::int64_t h) const { return head(args_.value, h); }
  MatrixView head(const MatrixView& side, std::int64_t h) const {
    const std::int64_t width = side.columns / heads;
    return columns_of(side, h * width, (h + 1) * width);
  }

  // The place of a query in [batch, heads, queries].
  std::int64_t row(std::int64_t b, std::int64_t h, std::int64_t query) const {
    return (b * heads + h) * queries + query;
  }

  static constexpr std::int64_t kGroupRows = 384;  // queries that meet a block of tokens

  const std::int64_t batch, heads, queries, tokens;
  const std::int64_t depth, value_depth, value_width;  // of a head; in whole panels
  std::int64_t most_rows, block_columns;

 private:
  const AttentionFusionArgs& args_;
  MatrixView query_;
};

// What the dropout multiplies the weights of one query with, for tokens [p, p + count) of those
// present.
template <class T>
void dropout_factors(const Dropout& dropout, std::int64_t first_weight, const PresentTokens& tokens,
                     std::int64_t p, std::int64_t count, T* factors) {
  if (tokens.list == nullptr) return dropout.factors(first_weight + p, count, factors);
  T some[kBlockColumns];
  for (std::int64_t c = 0; c < count;) {
    const std::int64_t begin = tokens(p + c);
    const std::int64_t span = std::min(kBlockColumns, tokens(p + count - 1) + 1 - begin);
    dropout.factors(first_weight + begin, span, some);
    for (; c < count && tokens(p + c) < begin + span; ++c) factors[c] = some[tokens(p + c) - begin];
  }
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
