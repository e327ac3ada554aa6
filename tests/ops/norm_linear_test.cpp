#include "megatron/ops/norm_linear.h"

#include "megatron/ops/matmul/linear.h"
#include "megatron/ops/norm.h"

#include "tests/ops/op_test.h"
#include "tests/ops/peak_memory.h"

namespace megatron::test {
namespace {

constexpr NormLinearOptions kLayer{.rms = false, .epsilon = 1e-5, .zero_centered = false};
constexpr NormLinearOptions kRms{.rms = true, .epsilon = 1e-6, .zero_centered = false};
constexpr NormLinearOptions kCentredLayer{.rms = false, .epsilon = 1e-5, .zero_centered = true};
constexpr NormLinearOptions kCentredRms{.rms = true, .epsilon = 1e-6, .zero_centered = true};

// Inputs: x, norm weight, norm bias or undefined, weight, bias or undefined.
Operator norm_linear_operator(const NormLinearOptions& options) {
  return [options](const std::vector<at::Tensor>& in) {
    return norm_linear(in[0], in[1], in[2], in[3], in[4], /*weight_main_grad=*/{}, options);
  };
}

Operator unfused_norm_linear(const NormLinearOptions& options) {
  return [options](const std::vector<at::Tensor>& in) {
    const at::Tensor normed = unfused::normalize_rows(in[0], in[1], in[2], options);
    const at::Tensor y = at::matmul(normed, in[3].t());
    return in[4].defined() ? y + in[4] : y;
  };
}

std::vector<at::Tensor> norm_linear_inputs(at::IntArrayRef shape, int64_t out, bool rms, bool bias,
                                           at::ScalarType dtype) {
  const int64_t h = shape.back();
  return {random_tensor(shape, dtype, 1) * 2 + 3, random_tensor({h}, dtype, 2),
          rms ? at::Tensor() : random_tensor({h}, dtype, 3),
          random_tensor({out, h}, dtype, 4) / std::sqrt(h),
          bias ? random_tensor({out}, dtype, 5) : at::Tensor()};
}

TEST(NormLinear, MatchesUnfusedInFp64) {
  for (const auto dtype : all_dtypes()) {
    // The last shape has more rows than are normalised at once.
    for (const auto& shape :
         {std::vector<int64_t>{40, 3, 66}, {5, 64}, {9}, {0, 8}, {1030, 2, 6}}) {
      for (const NormLinearOptions& options : {kLayer, kRms, kCentredLayer, kCentredRms}) {
        const bool bias = options.zero_centered != options.rms;
        const double bound =
            dtype == at::kBFloat16 || dtype == at::kHalf ? 6e-2 : 10 * tolerance(dtype);
        const auto inputs = norm_linear_inputs(shape, 17, options.rms, bias, dtype);
        const auto got = run(norm_linear_operator(options), inputs);
        const auto want = run(in_fp64(unfused_norm_linear(options)), inputs);
        expect_close(got.value, want.value, bound, "value");
        ASSERT_EQ(got.gradients.size(), want.gradients.size());
        for (size_t i = 0; i < want.gradients.size(); ++i) {
          if (want.gradients[i].numel() == 0) continue;
          const double scale = 1 + want.gradients[i].abs().max().item<double>();
          expect_close(got.gradients[i] / scale, want.gradients[i] / scale, bound,
                       "gradient " + std::to_string(i));
        }
      }
    }
  }
}

TEST(NormLinear, GradientsMatchFiniteDifferences) {
  for (const NormLinearOptions& options : {kLayer, kRms, kCentredLayer, kCentredRms}) {
    expect_gradients_by_differences(
        norm_linear_operator(options),
        norm_linear_inputs({2, 3, 7}, 4, options.rms, /*bias=*/true, at::kDouble));
  }
}

TEST(NormLinear, DoesNotDependOnTheNumberOfThreads) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const auto inputs = norm_linear_inputs({300, 4, 66}, 34, false, true, dtype);
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const auto alone = run(norm_linear_operator(kLayer), inputs);
    at::set_num_threads(2);
    const auto shared = run(norm_linear_operator(kLayer), inputs);
    at::set_num_threads(threads);
    expect_identical(shared.value, alone.value);
    for (size_t i = 0; i < alone.gradients.size(); ++i) {
      if (i == 3) continue;  // the weight's: libtorch's GEMM, if there is no main_grad
      expect_identical(shared.gradients[i], alone.gradients[i], std::to_string(i));
    }
  }
}

// The residual stream may be wider than the parameters (fp32_residual_connection).
TEST(NormLinear, AcceptsFp32InputWithBf16Parameters) {
  auto inputs = norm_linear_inputs({7, 32}, 16, false, true, at::kBFloat16);
  inputs[0] = random_tensor({7, 32}, at::kFloat, 1);
  const auto got = run(norm_linear_operator(kLayer), inputs);
  const auto want = run(in_fp64(unfused_norm_linear(kLayer)), inputs);
  EXPECT_EQ(got.value.scalar_type(), at::kBFloat16);
  EXPECT_EQ(got.gradients[0].scalar_type(), at::kFloat);
  expect_close(got.value.to(at::kFloat), want.value, 6e-2);
  expect_close(got.gradients[0], want.gradients[0], 6e-2);
}

// Two micro-batches are in flight at once, as in a pipeline.
TEST(NormLinear, AccumulatesMicroBatchesIntoMainGrad) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor gamma = random_tensor({16}, dtype, 2).requires_grad_();
    const at::Tensor weight = random_tensor({9, 16}, dtype, 1).requires_grad_();
    at::Tensor main_grad = at::ones({9, 16}, wide), want = at::ones({9, 16}, at::kDouble);
    std::vector<at::Tensor> outputs, cotangents;
    for (int i = 0; i < 2; ++i) {
      const at::Tensor x = random_tensor({7, 2, 16}, dtype, 10 + i);
      outputs.push_back(norm_linear(x, gamma, {}, weight, {}, main_grad, kRms));
      cotangents.push_back(random_tensor({7, 2, 9}, dtype, 20 + i));
      const at::Tensor normed = rms_norm(x, gamma.detach(), kRms.epsilon);
      want += at::matmul(cotangents[i].reshape({14, 9}).t().to(at::kDouble),
                         normed.reshape({14, 16}).to(at::kDouble));
    }
    for (int i = 0; i < 2; ++i) torch::autograd::backward({outputs[i]}, {cotangents[i]});
    EXPECT_FALSE(weight.grad().defined());
    EXPECT_TRUE(gamma.grad().defined());
    expect_close(main_grad, want.to(wide), dtype == at::kBFloat16 ? 4e-2 : 1e-5);
  }
}

TEST(NormLinear, FrozenWeightGetsNoGradient) {
  const auto inputs = norm_linear_inputs({5, 8}, 3, false, false, at::kFloat);
  const at::Tensor x = inputs[0].detach().requires_grad_();
  at::Tensor main_grad = at::zeros({3, 8});
  torch::autograd::backward(
      {norm_linear(x, inputs[1], inputs[2], inputs[3], {}, main_grad, kLayer).sum()});
  EXPECT_TRUE(main_grad.eq(0).all().item<bool>());
  const at::Tensor plain = inputs[0].detach().requires_grad_();
  torch::autograd::backward(
      {at::matmul(unfused::layer_norm(plain, inputs[1], inputs[2], 1e-5), inputs[3].t()).sum()});
  expect_close(x.grad(), plain.grad(), 1e-5);
}

// The norm and the linear layer one after another keep the normalised activations; fused they do
// not.
TEST(NormLinear, KeepsNoNormalisedActivations) {
  constexpr int64_t rows = 40, h = 64, out = 96;
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    std::vector<at::Tensor> in = norm_linear_inputs({rows, h}, out, false, false, dtype);
    for (at::Tensor& tensor : in) {
      if (tensor.defined()) tensor.requires_grad_();
    }
    const auto fused = [&] { return norm_linear(in[0], in[1], in[2], in[3], {}, {}, kLayer); };
    const auto separate = [&] {
      return linear(layer_norm(in[0], in[1], in[2], 1e-5), in[3], {}, {});
    };
    const int64_t output_bytes = rows * out * c10::elementSize(dtype);
    // The output and two statistics of each row, in blocks of 64 bytes.
    EXPECT_LE(kept_bytes(fused), output_bytes + 2 * (rows * 4 + 64));
    EXPECT_GE(kept_bytes(separate) - kept_bytes(fused), rows * h * c10::elementSize(dtype) - 128);
  }
}

TEST(NormLinear, StepsGiveTheSameBits) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const NormLinearOptions& options : {kLayer, kCentredRms}) {
      const auto in = norm_linear_inputs({33, 2, 50}, 4, options.rms, false, dtype);
      const NormalizedRows rows = normalize_rows(in[0], in[1], in[2], options);
      expect_identical(normalize_rows_again(in[0], in[1], in[2], rows.statistics, options),
                       rows.normed, "again");
      at::Tensor gradient = random_tensor({33, 2, 50}, dtype, 9);
      const NormGradients want =
          normalize_rows_backward(gradient, in[0], in[1], rows.statistics, options);
      const NormGradients got = normalize_rows_backward_and_again(gradient, in[0], in[1], in[2],
                                                                  rows.statistics, options);
      expect_close(gradient, rows.normed, tolerance(dtype), "normed");
      expect_close(got.x, want.x, tolerance(dtype), "x");
      expect_close(got.weight, want.weight, tolerance(dtype), "weight");
      EXPECT_EQ(got.bias.defined(), !options.rms);
    }
  }
}

TEST(NormLinear, RefusesBadArguments) {
  const at::Tensor x = at::zeros({2, 4}), gamma = at::zeros({4}), weight = at::zeros({3, 4});
  const auto apply = [&](const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                         const at::Tensor& matrix, const at::Tensor& bias,
                         const NormLinearOptions& options) {
    return [=] { norm_linear(x, norm_weight, norm_bias, matrix, bias, {}, options); };
  };
  expect_error(apply(at::zeros({3}), gamma, weight, {}, kLayer),
               "Expected norm_weight of shape [4], but got [3]");
  expect_error(apply(gamma, {}, weight, {}, kLayer), "Expected a norm_bias without rms");
  expect_error(apply(gamma, gamma, weight, {}, kRms), "Expected no norm_bias with rms");
  expect_error(apply(gamma, gamma, at::zeros({3, 5}), {}, kLayer),
               "Expected weight of shape [out, 4], but got [3, 5]");
  expect_error(apply(gamma, gamma, weight, at::zeros({4}), kLayer), "Expected bias of shape [3]");
  expect_error(apply(gamma.to(at::kDouble), gamma, weight.to(at::kDouble), {}, kLayer),
               "Expected x of dtype fp64");
}

}  // namespace
}  // namespace megatron::test
