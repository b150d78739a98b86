// bidirectional_fusion over few tokens: as two calls of attention_fusion, whose kernel is twice as
// fast there although it makes the scores twice.
#pragma once

#include <cstddef>

#include "cpu/kernels.h"
#include "cpu/pack.h"
#include "cpu/scratch.h"

namespace fusionops::cpu::FUSIONOPS_ISA {

void attention_fusion(const AttentionFusionArgs& args, const Executor& executor);
void attention_fusion_backward(const AttentionFusionBackwardArgs& args, const Executor& executor);

// Measured at D 64: even at 32 x 32.
inline bool has_few_tokens(const BidirectionalFusionArgs& args) {
  const std::int64_t users = args.user.tokens.rows, items = args.item.tokens.rows;
  return users * items <= 1024 && !is_long_attention(users, items);
}

// What `own` attends to on the other side.
inline AttentionFusionArgs attention_of(const BidirectionalSide& own,
                                        const BidirectionalSide& other, double scale) {
  AttentionFusionArgs args;
  args.query = own.tokens;
  args.key = other.tokens;
  args.value = other.value;
  args.query_mask = own.mask;
  args.mask = other.mask;
  args.scale = scale;
  args.out = own.fused;
  args.log_sum = own.log_sum;
  return args;
}

inline void fuse_few_tokens(const BidirectionalFusionArgs& args, const Executor& executor) {
  attention_fusion(attention_of(args.user, args.item, args.scale), executor);
  attention_fusion(attention_of(args.item, args.user, args.scale), executor);
}

// out[i] += more[i]
inline void add_gradient(DType dtype, std::int64_t count, const void* more, void* out,
                         const Executor& executor) {
  constexpr std::int64_t kPerTask = 16 * 1024;
  with_type(dtype, [&]<class Out>(Out*) {
    executor.run(ceil_div(count, kPerTask), [&](std::int64_t task, int) {
      const std::int64_t end = std::min(count, (task + 1) * kPerTask);
      for (std::int64_t i = task * kPerTask; i < end; ++i) {
        Out& to = static_cast<Out*>(out)[i];
        narrow(widen(to) + widen(static_cast<const Out*>(more)[i]), &to);
      }
    });
  });
}

// Each side's tokens have a gradient as queries, and one as keys of the other side's.
inline void fuse_few_tokens_backward(const BidirectionalFusionBackwardArgs& args,
                                     const Executor& executor) {
  const BidirectionalSide &user = args.forward.user, &item = args.forward.item;
  const auto elements = [](const BidirectionalSide& side) {
    return side.tokens.batch * side.tokens.rows * side.tokens.columns;
  };
  const auto keys_of = [&](const BidirectionalSide& side, const BidirectionalGradients& to) {
    const auto bytes = static_cast<std::int64_t>(size_of(side.tokens.dtype));
    return Scratch<std::byte>(1, to.tokens == nullptr ? 0 : elements(side) * bytes);
  };
  Scratch<std::byte> user_keys = keys_of(user, args.user), item_keys = keys_of(item, args.item);
  const auto attend = [&](const BidirectionalSide& own, const BidirectionalSide& other,
                          const BidirectionalGradients& to, const BidirectionalGradients& to_other,
                          Scratch<std::byte>& other_keys) {
    AttentionFusionBackwardArgs backward;
    backward.forward = attention_of(own, other, args.forward.scale);
    backward.grad = to.fused;
    backward.query = to.tokens;
    backward.key = to_other.tokens == nullptr ? nullptr : other_keys.of(0);
    backward.value = to_other.value;
    backward.value_is_key = other.value_is_tokens;
    attention_fusion_backward(backward, executor);
  };
  attend(user, item, args.user, args.item, item_keys);
  attend(item, user, args.item, args.user, user_keys);
  const auto add = [&](const BidirectionalSide& side, void* out, const Scratch<std::byte>& keys) {
    if (out != nullptr) add_gradient(side.tokens.dtype, elements(side), keys.of(0), out, executor);
  };
  add(user, args.user.tokens, user_keys);
  add(item, args.item.tokens, item_keys);
}

}  // namespace fusionops::cpu::FUSIONOPS_ISA
