#include "megatron/ops/norm.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

Operator layer(bool fused, double eps) {
  return [=](const std::vector<at::Tensor>& in) {
    return fused ? layer_norm(in[0], in[1], in[2], eps)
                 : unfused::layer_norm(in[0], in[1], in[2], eps);
  };
}

Operator rms(bool fused, double eps) {
  return [=](const std::vector<at::Tensor>& in) {
    return fused ? rms_norm(in[0], in[1], eps) : unfused::rms_norm(in[0], in[1], eps);
  };
}

TEST(Norm, MatchesUnfusedInFp64) {
  for (const auto dtype : all_dtypes()) {
    for (const auto& shape : {std::vector<int64_t>{40, 3, 67}, {5, 64}, {1, 1}, {9}, {0, 8}}) {
      const int64_t h = shape.back();
      // A mean far from zero shows a variance that is not taken about the mean.
      const at::Tensor x = random_tensor(shape, dtype, 1) * 2 + 3;
      const at::Tensor weight = random_tensor({h}, dtype, 2), bias = random_tensor({h}, dtype, 3);
      expect_like_reference(layer(true, 1e-5), in_fp64(layer(false, 1e-5)), {x, weight, bias},
                            2 * tolerance(dtype), "layer_norm");
      expect_like_reference(rms(true, 1e-6), in_fp64(rms(false, 1e-6)), {x, weight},
                            2 * tolerance(dtype), "rms_norm");
    }
  }
}

TEST(Norm, AcceptsFp32WeightsWithBf16Input) {
  const at::Tensor x = random_tensor({7, 33}, at::kBFloat16, 1);
  const at::Tensor weight = random_tensor({33}, at::kFloat, 2);
  const at::Tensor bias = random_tensor({33}, at::kFloat, 3);
  expect_like_reference(layer(true, 1e-5), in_fp64(layer(false, 1e-5)), {x, weight, bias}, 1.2e-2,
                        "mixed");
  EXPECT_EQ(layer_norm(x, weight, bias, 1e-5).scalar_type(), at::kBFloat16);
}

TEST(Norm, GradientsMatchFiniteDifferences) {
  const at::Tensor x = random_tensor({2, 3, 7}, at::kDouble, 1);
  const at::Tensor weight = random_tensor({7}, at::kDouble, 2);
  const at::Tensor bias = random_tensor({7}, at::kDouble, 3);
  expect_gradients_by_differences(layer(true, 1e-5), {x, weight, bias});
  expect_gradients_by_differences(rms(true, 1e-6), {x, weight});
}

TEST(Norm, MatchesLibtorch) {
  const at::Tensor x = random_tensor({12, 768}, at::kFloat, 1);
  const at::Tensor weight = random_tensor({768}, at::kFloat, 2);
  const at::Tensor bias = random_tensor({768}, at::kFloat, 3);
  expect_close(layer_norm(x, weight, bias, 1e-5), at::layer_norm(x, {768}, weight, bias, 1e-5),
               3e-6);
}

TEST(Norm, AcceptsStridedInput) {
  const at::Tensor x = random_tensor({30, 4, 6}, at::kFloat, 5).transpose(0, 2);
  const at::Tensor weight = random_tensor({60}, at::kFloat, 2).slice(0, 0, 60, 2);
  expect_close(rms_norm(x, weight, 1e-5), unfused::rms_norm(x, weight, 1e-5), 3e-6);
}

TEST(Norm, RefusesBadArguments) {
  const at::Tensor x = at::zeros({2, 4});
  expect_error([&] { rms_norm(x, at::zeros({3}), 1e-5); },
               "Expected weight of shape [4], but got [3]");
  expect_error([&] { layer_norm(x, at::zeros({4}), at::Tensor(), 1e-5); }, "bias");
  expect_error([&] { rms_norm(x, at::zeros({4}, at::kDouble), 1e-5); }, "Expected weight of dtype");
  expect_error([&] { rms_norm(at::zeros({3, 0}), at::zeros({0}), 1e-5); }, "at least 1");
}

}  // namespace
}  // namespace megatron::test
