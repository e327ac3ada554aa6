#include "megatron/ops/random/dropout.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

constexpr DropoutKey kKey{.seed = 1234, .layer = 7, .site = 2};

DropoutIndex index_of(int64_t b, int64_t s, int64_t first_sample = 1000,
                      int64_t first_position = 0) {
  return {at::arange(first_sample, first_sample + b, at::kLong),
          at::arange(first_position, first_position + s, at::kLong)};
}

at::Tensor factors_like(const at::Tensor& x, double p, const DropoutIndex& index) {
  return dropout_factors(x.sizes(), p, kKey, index).to(x.scalar_type());
}

TEST(Dropout, AppliesTheFactors) {
  for (const auto dtype : all_dtypes()) {
    for (const auto& shape :
         {std::vector<int64_t>{5, 3, 200}, {4, 1, 64}, {1, 2, 7}, {2, 2, 0}, {0, 2, 4}}) {
      const auto index = index_of(shape[1], shape[0], 1000, 17);
      const at::Tensor x = random_tensor(shape, dtype, 1);
      expect_like_reference([&](const auto& in) { return dropout(in[0], 0.3, kKey, index); },
                            [&](const auto& in) { return in[0] * factors_like(in[0], 0.3, index); },
                            {x}, tolerance(dtype), "dropout");
    }
  }
}

TEST(BiasDropoutAdd, AppliesTheFactors) {
  for (const auto dtype : all_dtypes()) {
    for (const double p : {0.0, 0.2}) {
      for (const bool with_bias : {true, false}) {
        const std::vector<int64_t> shape = {20, 3, 70};
        const auto index = index_of(3, 20);
        const at::Tensor x = random_tensor(shape, dtype, 1),
                         residual = random_tensor(shape, dtype, 2);
        const at::Tensor bias = with_bias ? random_tensor({70}, dtype, 3) : at::Tensor();
        expect_like_reference(
            [&](const auto& in) { return bias_dropout_add(in[0], in[1], in[2], p, kKey, index); },
            [&](const auto& in) {
              const at::Tensor sum = in[1].defined() ? in[0] + in[1] : in[0];
              return in[2] + sum * factors_like(sum, p, index);
            },
            {x, bias, residual}, tolerance(dtype), fmt::format("p {} bias {}", p, with_bias));
      }
    }
  }
}

TEST(AttentionDropout, AppliesTheFactors) {
  for (const auto dtype : all_dtypes()) {
    const at::Tensor probs = random_tensor({2, 3, 5, 130}, dtype, 1);
    const auto index = index_of(2, 5, 10, 3);
    expect_like_reference(
        [&](const auto& in) { return attention_dropout(in[0], 0.4, kKey, index, 6); },
        [&](const auto& in) {
          return in[0] * attention_dropout_factors(in[0].sizes(), 0.4, kKey, index, 6)
                             .to(in[0].scalar_type());
        },
        {probs}, tolerance(dtype), "attention_dropout");
  }
}

TEST(BiasDropoutAdd, GradientsMatchFiniteDifferences) {
  const auto index = index_of(2, 3);
  expect_gradients_by_differences(
      [&](const auto& in) { return bias_dropout_add(in[0], in[1], in[2], 0.5, kKey, index); },
      {random_tensor({3, 2, 5}, at::kDouble, 1), random_tensor({5}, at::kDouble, 2),
       random_tensor({3, 2, 5}, at::kDouble, 3)});
}

// Shards of the batch, the sequence and the heads draw the masks of the full tensor.
TEST(Dropout, MaskDoesNotDependOnTheLayout) {
  const at::Tensor x = at::ones({8, 4, 100});
  const auto full_index = index_of(4, 8);
  const at::Tensor full = dropout(x, 0.5, kKey, full_index);
  for (const int64_t b : {0, 2}) {
    // Zigzag positions, as with context parallelism.
    const at::Tensor positions = at::tensor({0, 1, 6, 7}, at::kLong);
    const DropoutIndex index{full_index.sample_ordinals.narrow(0, b, 2), positions};
    const at::Tensor slice = dropout(x.narrow(0, 0, 4).narrow(1, b, 2), 0.5, kKey, index);
    expect_identical(slice, full.index_select(0, positions).narrow(1, b, 2));
  }
  const at::Tensor probs = at::ones({2, 6, 8, 8});
  const auto queries = index_of(2, 8);
  const at::Tensor all = attention_dropout(probs, 0.5, kKey, queries, 0);
  const DropoutIndex late{queries.sample_ordinals.narrow(0, 1, 1),
                          queries.positions.narrow(0, 4, 4)};
  const at::Tensor slice = attention_dropout(at::ones({1, 2, 4, 8}), 0.5, kKey, late, 4);
  expect_identical(slice, all.narrow(0, 1, 1).narrow(1, 4, 2).narrow(2, 4, 4));
}

TEST(Dropout, MasksHaveTheRightMeanAndAreIndependent) {
  const at::Tensor x = at::ones({64, 8, 512});
  const auto index = index_of(8, 64);
  const auto kept = [&](const DropoutKey& key, const DropoutIndex& where) {
    return dropout(x, 0.1, key, where).ne(0).to(at::kDouble);
  };
  const at::Tensor base = kept(kKey, index);
  // 262144 draws: the standard error of the mean is 0.0006.
  EXPECT_NEAR(base.mean().item<double>(), 0.9, 0.003);
  EXPECT_NEAR(dropout(x, 0.1, kKey, index).mean().item<double>(), 1.0, 0.0035);
  std::vector<at::Tensor> others;
  for (DropoutKey key : {DropoutKey{1235, 7, 2}, DropoutKey{1234, 8, 2}, DropoutKey{1234, 7, 3}}) {
    others.push_back(kept(key, index));
  }
  others.push_back(kept(kKey, index_of(8, 64, 2000)));
  others.push_back(kept(kKey, index_of(8, 64, 1000, 64)));
  others.push_back(base.roll({1}, {0}));
  others.push_back(base.roll({1}, {1}));
  others.push_back(base.roll({1}, {2}));
  for (const at::Tensor& other : others) {
    // Two independent masks both keep an element with probability 0.9 * 0.9.
    EXPECT_NEAR((base * other).mean().item<double>(), 0.81, 0.004);
  }
}

TEST(Dropout, DroppedNanBecomesZero) {
  const auto index = index_of(1, 4);
  const at::Tensor factors = dropout_factors({4, 1, 64}, 0.5, kKey, index);
  const at::Tensor x = at::where(factors == 0, at::full({}, NAN, at::kDouble), factors);
  EXPECT_FALSE(dropout(x.to(at::kFloat), 0.5, kKey, index).isnan().any().item<bool>());
}

TEST(Dropout, RefusesInvalidArguments) {
  const at::Tensor x = at::zeros({2, 3, 4});
  const auto index = index_of(3, 2);
  expect_error([&] { dropout(x, 1.0, kKey, index); }, "below 1, but got 1");
  expect_error([&] { dropout(x, -0.1, kKey, index); }, "at least 0");
  expect_error([&] { dropout(x[0], 0.1, kKey, index); }, "Expected x of shape [s_p, b, h]");
  expect_error([&] { dropout(x, 0.1, kKey, index_of(2, 2)); },
               "Expected sample_ordinals of shape [3], but got [2]");
  expect_error([&] { dropout(x, 0.1, kKey, {}); }, "sample_ordinals");
  expect_error(
      [&] {
        dropout(x, 0.1, kKey, {index.sample_ordinals, index.positions.to(at::kInt)});
      },
      "int64");
  expect_error([&] { bias_dropout_add(x, {}, x[0], 0.1, kKey, index); }, "Expected residual");
  expect_error([&] { bias_dropout_add(x, at::zeros({3}), x, 0.1, kKey, index); }, "Expected bias");
  expect_error([&] { attention_dropout(x, 0.1, kKey, index, 0); }, "[b, n_p, sq, sk]");
}

}  // namespace
}  // namespace megatron::test
