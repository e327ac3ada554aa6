// Merged blocks of keys against the full sequence. tests/context_parallel tests the gradients.
#include "megatron/ops/attention/attention_block.h"

#include "megatron/ops/attention/fused_attention.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

constexpr int64_t kSequence = 200;

struct BlockInputs {
  at::Tensor q, k, v;
  explicit BlockInputs(at::ScalarType dtype)
      : q(random_tensor({kSequence, 2, 4, 16}, dtype, 1)),
        k(random_tensor({kSequence, 2, 2, 16}, dtype, 2)),
        v(random_tensor({kSequence, 2, 2, 8}, dtype, 3)) {}
};

// Attention of the queries at positions `queries` over the keys at positions `keys`.
AttentionBlockOutput over(const BlockInputs& in, const at::Tensor& queries, const at::Tensor& keys,
                          AttentionOptions options = {.scale = 0.3}, bool unfused = false) {
  options.mask.query_positions = queries;
  options.mask.key_positions = keys;
  return attention_block(in.q.index_select(0, queries), in.k.index_select(0, keys),
                         in.v.index_select(0, keys), options, unfused);
}

double block_bound(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? 2e-2 : dtype == at::kFloat ? 5e-6 : 1e-12;
}

// Three blocks of keys, one of which is not contiguous, merged in different orders.
TEST(AttentionBlock, MergedBlocksEqualTheFullSequence) {
  const at::Tensor positions = at::arange(kSequence, at::kLong);
  const at::Tensor first = positions.narrow(0, 0, 70), last = positions.narrow(0, 150, 30);
  const at::Tensor middle = at::cat({positions.narrow(0, 70, 80), positions.narrow(0, 180, 20)});
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    const BlockInputs in(dtype);
    for (const bool unfused : {false, true}) {
      for (const AttentionMask& mask :
           {AttentionMask{}, AttentionMask{.window = AttentionWindow{90, 0}},
            AttentionMask{.causal = false},
            AttentionMask{.causal = false, .window = AttentionWindow{150, 120}}}) {
        const AttentionOptions options{.scale = 0.3, .mask = mask};
        const at::Tensor want = reference::fused_attention(
            in.q.to(at::kDouble), in.k.to(at::kDouble), in.v.to(at::kDouble), options);
        const auto over_keys = [&](const at::Tensor& keys) {
          return over(in, positions, keys, options, unfused);
        };
        const auto a = over_keys(first), b = over_keys(middle), c = over_keys(last);
        for (const auto& all : {merge_attention(merge_attention(a, b), c),
                                merge_attention(c, merge_attention(b, a))}) {
          expect_close(all.out.to(at::kDouble).flatten(2), want,
                       dtype == at::kHalf ? 2e-3 : block_bound(dtype),
                       fmt::format("{} causal {} window {} unfused {}", c10::toString(dtype),
                                   mask.causal, mask.window.has_value(), unfused));
        }
      }
    }
  }
}

TEST(AttentionBlock, QueriesWithoutKeysDoNotAffectAMerge) {
  const BlockInputs in(at::kFloat);
  const at::Tensor queries = at::arange(10, at::kLong), ahead = at::arange(50, 60, at::kLong);
  const auto nothing = over(in, queries, ahead);
  EXPECT_TRUE(nothing.out.eq(0).all().item<bool>());
  EXPECT_TRUE(nothing.lse.eq(-INFINITY).all().item<bool>());
  const auto something = over(in, queries, queries);
  expect_identical(merge_attention(nothing, something).out, something.out);
  const auto still_nothing = merge_attention(nothing, nothing);
  EXPECT_TRUE(still_nothing.out.eq(0).all().item<bool>());
  EXPECT_TRUE(still_nothing.lse.eq(-INFINITY).all().item<bool>());
}

TEST(AttentionBlock, RefusesUnsupportedArguments) {
  const BlockInputs in(at::kFloat);
  const at::Tensor positions = at::arange(8, at::kLong);
  expect_error(
      [&] {
        over(in, positions, positions, {.mask = {.masked = at::zeros({1, 1, 8, 8}, at::kBool)}});
      },
      "Expected no mask and no bias in a fused block");
  expect_error(
      [&] {
        over(in, positions, positions, {.bias = at::zeros({1, 1, 8, 8})});
      },
      "unfused blocks accept them");
  expect_error([&] { over(in, positions, at::empty({0}, at::kLong)); },
               "at least 1 query and 1 key");
  expect_error([&] { over(in, positions.to(at::kInt), positions); }, "int64 on the CPU");
}

}  // namespace
}  // namespace megatron::test
