#include "megatron/ops/activation.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

struct Case {
  std::string name;
  bool gated;
  std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> fused, unfused;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> made = {
        {"squared_relu", false, bias_squared_relu, unfused::bias_squared_relu},
        {"quick_gelu", false, bias_quick_gelu, unfused::bias_quick_gelu}};
    // With the defaults, and as in GPT-OSS: an offset, and a clamp that some elements exceed.
    for (const GluOptions& glu :
         {GluOptions{}, GluOptions{.clamp_value = 0.7, .linear_offset = 1.0}}) {
      const std::string suffix = glu.linear_offset != 0 ? "_clamped" : "";
      made.push_back(
          {"swiglu" + suffix, true,
           [=](const auto& x, const auto& b) { return bias_swiglu(x, b, glu); },
           [=](const auto& x, const auto& b) { return unfused::bias_swiglu(x, b, glu); }});
      made.push_back(
          {"quick_geglu" + suffix, true,
           [=](const auto& x, const auto& b) { return bias_quick_geglu(x, b, glu); },
           [=](const auto& x, const auto& b) { return unfused::bias_quick_geglu(x, b, glu); }});
    }
    for (const bool tanh_form : {false, true}) {
      const std::string suffix = tanh_form ? "_tanh" : "";
      made.push_back(
          {"gelu" + suffix, false,
           [=](const auto& x, const auto& b) { return bias_gelu(x, b, tanh_form); },
           [=](const auto& x, const auto& b) { return unfused::bias_gelu(x, b, tanh_form); }});
      made.push_back(
          {"geglu" + suffix, true,
           [=](const auto& x, const auto& b) { return bias_geglu(x, b, tanh_form); },
           [=](const auto& x, const auto& b) { return unfused::bias_geglu(x, b, tanh_form); }});
    }
    return made;
  }();
  return all;
}

Operator as_operator(const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& f) {
  return [f](const std::vector<at::Tensor>& inputs) { return f(inputs[0], inputs[1]); };
}

TEST(Activation, MatchesUnfusedInFp64) {
  for (const Case& test : cases()) {
    for (const auto dtype : all_dtypes()) {
      for (const bool with_bias : {true, false}) {
        // Odd sizes, and enough rows for several blocks of the bias gradient.
        for (const auto& shape : {std::vector<int64_t>{37, 3, 50}, {6}, {1, 2}, {0, 4}}) {
          const at::Tensor x = 2 * random_tensor(shape, dtype, 1);
          const at::Tensor bias =
              with_bias ? random_tensor({shape.back()}, dtype, 2) : at::Tensor();
          expect_like_reference(as_operator(test.fused), in_fp64(as_operator(test.unfused)),
                                {x, bias}, tolerance(dtype), test.name);
        }
      }
    }
  }
}

TEST(Activation, GradientsMatchFiniteDifferences) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(test.name);
    expect_gradients_by_differences(
        as_operator(test.fused),
        {random_tensor({3, 2, 10}, at::kDouble, 3), random_tensor({10}, at::kDouble, 4)});
  }
}

TEST(Activation, AcceptsStridedInput) {
  const at::Tensor x = random_tensor({20, 6, 5}, at::kFloat, 5).transpose(0, 2);
  for (const Case& test : cases()) {
    expect_close(test.fused(x, {}), test.unfused(x, {}), 3e-6, test.name);
  }
}

TEST(Activation, HandlesTailsInfinitiesAndNaN) {
  const float infinity = std::numeric_limits<float>::infinity();
  const at::Tensor x = at::tensor({-100.f, -12.f, -6.f, -3.f, 0.f, 3.f, 12.f, 100.f, infinity});
  const at::Tensor y = bias_gelu(x, {}, /*tanh_form=*/false);
  EXPECT_EQ(y[0].item<float>(), 0.0f);
  // -6 Phi(-6): the lower tail is accurate to a relative error.
  EXPECT_NEAR(y[2].item<float>() / -5.919525869e-9, 1.0, 1e-5);
  EXPECT_EQ(y[4].item<float>(), 0.0f);
  EXPECT_EQ(y[7].item<float>(), 100.0f);
  EXPECT_EQ(y[8].item<float>(), infinity);
  const at::Tensor nan = bias_gelu(at::full({20}, NAN), {}, true);
  EXPECT_TRUE(nan.isnan().all().item<bool>());
}

TEST(Activation, RefusesBadArguments) {
  const at::Tensor x = random_tensor({2, 5}, at::kFloat, 1);
  expect_error([&] { bias_swiglu(x, {}); }, "Expected x with an even last dimension");
  expect_error([&] { bias_gelu(x, at::zeros({4}), false); },
               "Expected bias of shape [5], but got [4]");
  expect_error([&] { bias_gelu(x, at::zeros({5}, at::kDouble), false); }, "Expected bias of dtype");
  expect_error([&] { bias_gelu(at::zeros({2}, at::kLong), {}, false); }, "floating dtype");
  expect_error([&] { bias_gelu(at::Tensor(), {}, false); }, "undefined");
  expect_error([&] { bias_gelu(at::zeros({}), {}, false); }, "at least 1 dimension");
}

}  // namespace
}  // namespace megatron::test
