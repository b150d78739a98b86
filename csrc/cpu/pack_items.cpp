// pack_items: a Catalog's vectors in the order that the score tile reads them.
//
// A panel is kPanelRows items side by side: [depth][32] in float32, [depth / 2][32][2] in bfloat16,
// [depth / 4][32][4] in int8 (stored plus 128, as the dot product of bytes takes one side without
// sign). The reduced forms come with each item's step, residual norm and norm, times |item_scale|.
// A task is a run of panels. Reads the vectors once, writes the panels once.
#include <algorithm>
#include <cstring>

#include "core/quantize.h"
#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/tile.h"

namespace fusionops::cpu::FUSIONOPS_ISA {
namespace {

constexpr std::int64_t kPanelsPerTask = 64;

// One item's bounds. Where none can be claimed, the largest float, so that the item is always
// looked at, and false: its approximate score must be 0 then, and not what is made of infinity or
// NaN.
bool put_stats(const Reduction& r, float scale, std::int64_t column, float* stats) {
  constexpr float kUnbounded = std::numeric_limits<float>::max();
  const double factor = std::abs(static_cast<double>(scale));
  const bool bounded = r.bounded(scale);
  stats[column] = bounded ? r.step * scale : 0;
  stats[kPanelRows + column] = bounded ? rounded_up(r.residual * factor) : kUnbounded;
  stats[2 * kPanelRows + column] = bounded ? rounded_up(r.norm * factor) : kUnbounded;
  return bounded;
}

// Where element d of a column stands in a panel of words that hold kGroup elements each.
template <int kGroup>
std::int64_t place(std::int64_t d, std::int64_t column) {
  return (d / kGroup * kPanelRows + column) * kGroup + d % kGroup;
}

void pack_reduced(const PackItemsArgs& args, std::int64_t panel) {
  const std::int64_t depth = args.vectors.columns, first = panel * kPanelRows;
  const std::int64_t count = std::min(kPanelRows, args.vectors.rows - first);
  float* stats = args.stats + panel * 3 * kPanelRows;
  std::fill_n(stats, 3 * kPanelRows, 0.0F);
  const bool bytes = args.packing == Packing::int8;
  const int group = bytes ? 4 : 2;
  const std::int64_t words = ceil_div(depth, group) * kPanelRows;
  auto* out = static_cast<std::uint32_t*>(args.panels) + panel * words;
  // Zeros, as padding and in what a vector does not fill; a byte of zero is stored as 128.
  std::fill_n(out, words, bytes ? 0x80808080U : 0U);
  for (std::int64_t c = 0; c < count; ++c) {
    const float* row = args.vectors.at<float>(0, first + c, 0);
    const auto get = [&](std::int64_t d) { return row[d * args.vectors.column_stride]; };
    const float scale = args.item_scale == nullptr ? 1.0F : args.item_scale[first + c];
    const auto blank = [&] {
      for (std::int64_t w = c; w < words; w += kPanelRows) out[w] = bytes ? 0x80808080U : 0U;
    };
    Reduction reduction;
    if (bytes) {
      auto* panel_bytes = reinterpret_cast<std::uint8_t*>(out);
      reduction = to_int8(get, depth, [&](std::int64_t d, std::int8_t q) {
        panel_bytes[place<4>(d, c)] = static_cast<std::uint8_t>(q + 128);
      });
    } else {
      auto* halves = reinterpret_cast<bfloat16*>(out);
      reduction =
          to_bfloat16(get, depth, [&](std::int64_t d, bfloat16 x) { halves[place<2>(d, c)] = x; });
    }
    if (!put_stats(reduction, scale, c, stats)) blank();
  }
}

void pack_float(const PackItemsArgs& args, std::int64_t panel) {
  const std::int64_t first = panel * kPanelRows;
  const std::int64_t end = std::min(args.vectors.rows, first + kPanelRows);
  pack_rows<static_cast<int>(kPanelRows)>(
      args.vectors, 0, first, end, static_cast<float*>(args.panels) + first * args.vectors.columns);
}

}  // namespace

void pack_items(const PackItemsArgs& args, const Executor& executor) {
  const std::int64_t panels = ceil_div(args.vectors.rows, kPanelRows);
  executor.run(ceil_div(panels, kPanelsPerTask), [&](std::int64_t task, int) {
    const std::int64_t end = std::min(panels, (task + 1) * kPanelsPerTask);
    for (std::int64_t panel = task * kPanelsPerTask; panel < end; ++panel) {
      args.packing == Packing::float32 ? pack_float(args, panel) : pack_reduced(args, panel);
    }
  });
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
