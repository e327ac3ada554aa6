#include "megatron/ops/loss/linear_cross_entropy.h"

#include "tests/ops/op_test.h"
#include "tests/ops/peak_memory.h"

namespace megatron::test {
namespace {

LinearCrossEntropyInputs example(int64_t tokens, int64_t columns, int64_t hidden, int64_t valid,
                                 at::ScalarType dtype) {
  return {.x = random_tensor({tokens, hidden}, dtype, 1),
          .weight = random_tensor({columns, hidden}, dtype, 2),
          .targets = at::arange(tokens, at::kLong) * 7 % valid,
          .block = {0, valid},
          .parameters = {.vocab_size = valid, .label_smoothing = 0.1, .logit_scale = 0.5}};
}

// One chunk; even and uneven chunks; a chunk of more columns than there are.
TEST(LinearCrossEntropy, DoesNotDependOnChunks) {
  auto inputs = example(9, 40, 6, 37, at::kDouble);
  const at::Tensor grad_loss = random_tensor({9}, at::kDouble, 3);
  inputs.chunk_columns = 37;
  const auto want = linear_cross_entropy_statistics(inputs);
  const auto gradients =
      linear_cross_entropy_gradients(inputs, want, grad_loss, true, true, at::Tensor());
  for (const int64_t chunk : {1, 5, 36, 1000, 0}) {
    inputs.chunk_columns = chunk;
    const auto got = linear_cross_entropy_statistics(inputs);
    expect_close(cross_entropy_loss(got, inputs.parameters),
                 cross_entropy_loss(want, inputs.parameters), 1e-13);
    at::Tensor main_grad = at::ones({40, 6}, at::kDouble);
    const auto returned =
        linear_cross_entropy_gradients(inputs, got, grad_loss, true, true, at::Tensor());
    const auto accumulated =
        linear_cross_entropy_gradients(inputs, got, grad_loss, true, true, main_grad);
    expect_close(returned.x, gradients.x, 1e-12);
    expect_close(returned.weight, gradients.weight, 1e-12);
    expect_identical(accumulated.x, returned.x);
    EXPECT_FALSE(accumulated.weight.defined());
    expect_close(main_grad - 1, gradients.weight, 1e-12);
  }
}

TEST(LinearCrossEntropy, DefaultChunksShrinkWithTokens) {
  EXPECT_EQ(linear_cross_entropy_chunk(0, 2), 8192);
  EXPECT_EQ(linear_cross_entropy_chunk(1024, 2), 4096);
  EXPECT_EQ(linear_cross_entropy_chunk(1024, 4), 2048);
  EXPECT_EQ(linear_cross_entropy_chunk(1 << 20, 2), 1024);
}

// 128 thousand ids, 4 thousand tokens: at most 15% of the logits and their gradient, which the
// unfused loss holds. All tokens are masked and h is small to save time; logits do not depend on
// either.
TEST(LinearCrossEntropy, PeakMemoryIsASmallFractionOfTheLogits) {
  const int64_t tokens = 4096, columns = 131072;
  for (const auto dtype : {at::kBFloat16, at::kFloat}) {
    const auto inputs = example(tokens, columns, 8, columns, dtype);
    const at::Tensor grad_loss = at::zeros({tokens});
    at::Tensor main_grad = at::zeros({columns, 8});
    const int64_t peak = peak_bytes([&] {
      const auto statistics = linear_cross_entropy_statistics(inputs);
      linear_cross_entropy_gradients(inputs, statistics, grad_loss, true, true, main_grad);
    });
    const int64_t unfused = 2 * tokens * columns * inputs.x.element_size();
    EXPECT_GT(peak, 0);
    EXPECT_LT(peak, unfused * 15 / 100) << "of " << unfused;
  }
}

TEST(LinearCrossEntropy, RefusesBadArguments) {
  const auto with = [](const auto& change) {
    auto inputs = example(3, 8, 4, 8, at::kFloat);
    change(inputs);
    linear_cross_entropy_statistics(inputs);
  };
  expect_error([&] { with([](auto& in) { in.x = at::zeros({3, 1, 4}); }); }, "[t, h]");
  expect_error([&] { with([](auto& in) { in.weight = at::zeros({8, 5}); }); }, "[v_p, 4]");
  expect_error([&] { with([](auto& in) { in.weight = in.weight.to(at::kDouble); }); }, "dtype");
  expect_error([&] { with([](auto& in) { in.block.valid = 9; }); }, "0 to 8 valid columns");
  expect_error([&] { with([](auto& in) { in.chunk_columns = -1; }); },
               "chunk_columns of at least 1");
}

}  // namespace
}  // namespace megatron::test
