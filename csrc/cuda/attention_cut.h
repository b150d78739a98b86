// How the passes of attention_fusion cut their work and choose a kernel: by the shapes, strides and
// addresses alone.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>

#include "core/half.h"
#include "cuda/attention_fusion.h"

namespace fusionops::cuda {

inline constexpr int kAttentionThreads = 128;

// Blocks that a multiprocessor shall hold of a kernel: by what its queries take in registers. Said
// to the compiler, which would otherwise spill to hold more.
constexpr int attention_blocks(bool packed, int queries, bool backward) {
  if (!packed || queries == 1) return 5;
  if (queries == 4) return backward ? 3 : 4;
  return 2;
}

struct AttentionCut {
  // Of rows in packs of `pack` elements, with `tables` of scores a group.
  AttentionCut(const AttentionFusionArgs& args, int pack, int tables,
               std::int64_t samples_a_group = 1)
      : samples(samples_a_group),
        groups((args.key.batch + samples - 1) / samples * args.num_heads),
        heads(static_cast<int>(args.num_heads)),
        queries(static_cast<int>(args.query.rows)),
        tokens(static_cast<int>(args.key.rows)),
        key_width(static_cast<int>(args.key.columns / args.num_heads)),
        value_width(static_cast<int>(args.value.columns / args.num_heads)),
        score_stride(tokens | 1),
        table((queries * score_stride) | 1) {
    const int widest = std::max({key_width, value_width, 1});
    const auto packs = static_cast<unsigned>((widest + pack - 1) / pack);
    lanes_log2 = std::min(static_cast<int>(std::bit_width(packs - 1)), 5);
    // Narrow heads with many scores: fewer groups a block, so that its tables fit.
    while (shared_bytes(tables) > kSharedBytes) threads > 32 ? threads /= 2 : ++lanes_log2;
  }

  int groups_a_block() const { return threads >> lanes_log2; }
  int shared_bytes(int tables) const { return groups_a_block() * tables * table * 4; }
  unsigned blocks() const {
    return static_cast<unsigned>((groups + groups_a_block() - 1) / groups_a_block());
  }

  std::int64_t samples;  // that a group of lanes computes, one after another
  std::int64_t groups;   // each with a head of some samples
  int heads, queries, tokens;
  int key_width, value_width;  // of a head
  int score_stride;  // of a query's scores: odd, so that lanes with a query each meet no bank twice
  int table;         // floats of a group's scores: odd too
  int lanes_log2 = 0, threads = kAttentionThreads;

 private:
  static constexpr int kSharedBytes = 48 << 10;  // what every GPU has without asking
};

// Whether all rows of all heads can be read in packs of 16 bytes.
inline bool packs_fit(const AttentionFusionArgs& args, std::initializer_list<MatrixView> sides) {
  for (const MatrixView& side : sides) {
    const auto whole = [&](std::int64_t elements) {
      return elements * static_cast<std::int64_t>(size_of(side.dtype)) % 16 == 0;
    };
    if (!whole(side.columns / args.num_heads) || side.column_stride != 1) return false;
    if (side.rows > 1 && !whole(side.row_stride)) return false;
    if (side.batch > 1 && !whole(side.batch_stride)) return false;
    if (reinterpret_cast<std::uintptr_t>(side.data) % 16 != 0) return false;
  }
  return true;
}

// Calls f.template operator()<T, kPacked, kQueries>(), kQueries of 1, 4 and 8 being the queries
// that are held in registers: each a kernel. What is not in packs is rare, and has but one.
template <class F>
void with_attention_kernel(DType dtype, bool packed, std::int64_t queries, const F& f) {
  const auto with_type = [&]<class T>() {
    if (!packed) {
      f.template operator()<T, false, 4>();
    } else if (queries <= 1) {
      f.template operator()<T, true, 1>();
    } else if (queries <= 4) {
      f.template operator()<T, true, 4>();
    } else {
      f.template operator()<T, true, 8>();
    }
  };
  switch (dtype) {
    case DType::float32:
      return with_type.template operator()<float>();
    case DType::bfloat16:
      return with_type.template operator()<bfloat16>();
    case DType::float16:
      return with_type.template operator()<float16>();
    default:
      throw std::invalid_argument("attention_fusion on CUDA: float32, bfloat16 or float16");
  }
}

}  // namespace fusionops::cuda
