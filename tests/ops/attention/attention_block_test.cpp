// Blocks of a row's keys, merged, against the whole row; tests/context_parallel has the gradients.
#include "megatron/ops/attention/attention_block.h"

#include "megatron/ops/attention/fused_attention.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

constexpr int64_t kRow = 200;

struct BlockInputs {
  at::Tensor q, k, v;
  explicit BlockInputs(at::ScalarType dtype)
      : q(random_tensor({kRow, 2, 4, 16}, dtype, 1)),
        k(random_tensor({kRow, 2, 2, 16}, dtype, 2)),
        v(random_tensor({kRow, 2, 2, 8}, dtype, 3)) {}
};

// The queries at `queries` over the keys at `keys`.
AttentionBlockOutput over(const BlockInputs& in, const at::Tensor& queries, const at::Tensor& keys,
                          AttentionBlock block = {.scale = 0.3}) {
  block.query_positions = queries;
  block.key_positions = keys;
  return attention_block(in.q.index_select(0, queries), in.k.index_select(0, keys),
                         in.v.index_select(0, keys), block);
}

double block_bound(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? 2e-2 : dtype == at::kFloat ? 5e-6 : 1e-12;
}

// Keys in three parts, the middle one in two pieces, in any order.
TEST(AttentionBlock, MergedBlocksAreTheWholeRow) {
  const at::Tensor places = at::arange(kRow, at::kLong);
  const at::Tensor first = places.narrow(0, 0, 70), last = places.narrow(0, 150, 30);
  const at::Tensor middle = at::cat({places.narrow(0, 70, 80), places.narrow(0, 180, 20)});
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    const BlockInputs in(dtype);
    for (const bool in_full : {false, true}) {
      for (const int64_t left : {-1, 90}) {
        const std::optional<AttentionWindow> window = AttentionWindow{left, 0};
        const AttentionBlock block{.scale = 0.3, .window = window, .in_full = in_full};
        const at::Tensor want =
            reference::fused_attention(in.q.to(at::kDouble), in.k.to(at::kDouble),
                                       in.v.to(at::kDouble), {.scale = 0.3, .window = window});
        const auto a = over(in, places, first, block), b = over(in, places, middle, block),
                   c = over(in, places, last, block);
        for (const auto& all : {merged(merged(a, b), c), merged(c, merged(b, a))}) {
          expect_close(all.out.to(at::kDouble).flatten(2), want,
                       dtype == at::kHalf ? 2e-3 : block_bound(dtype),
                       fmt::format("{} left {} in full {}", c10::toString(dtype), left, in_full));
        }
      }
    }
  }
}

TEST(AttentionBlock, RowsThatSeeNothingWeighNothing) {
  const BlockInputs in(at::kFloat);
  const at::Tensor queries = at::arange(10, at::kLong), ahead = at::arange(50, 60, at::kLong);
  const auto nothing = over(in, queries, ahead);
  EXPECT_TRUE(nothing.out.eq(0).all().item<bool>());
  EXPECT_TRUE(nothing.lse.eq(-INFINITY).all().item<bool>());
  const auto something = over(in, queries, queries);
  expect_identical(merged(nothing, something).out, something.out);
  const auto still_nothing = merged(nothing, nothing);
  EXPECT_TRUE(still_nothing.out.eq(0).all().item<bool>());
  EXPECT_TRUE(still_nothing.lse.eq(-INFINITY).all().item<bool>());
}

TEST(AttentionBlock, RefusesWhatItCanNotDo) {
  const BlockInputs in(at::kFloat);
  const at::Tensor places = at::arange(8, at::kLong);
  expect_error([&] { over(in, places, places, {.causal = false}); }, "Expected in_full");
  expect_error(
      [&] {
        over(in, places, places, {.mask = at::zeros({1, 1, 8, 8}, at::kBool)});
      },
      "Expected in_full");
  expect_error([&] { over(in, places, at::empty({0}, at::kLong)); }, "at least 1 query and 1 key");
  expect_error([&] { over(in, places.to(at::kInt), places); }, "int64 on the CPU");
}

}  // namespace
}  // namespace megatron::test
