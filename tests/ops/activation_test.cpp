#include "megatron/ops/activation.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

struct Case {
  std::string name;
  bool gated;
  std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> op, reference;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> made = {
        {"squared_relu", false, bias_squared_relu, reference::bias_squared_relu},
        {"quick_gelu", false, bias_quick_gelu, reference::bias_quick_gelu}};
    // Plain, and with clamps that some elements pass and an offset (GPT-OSS).
    for (const GatedUnit& unit : {GatedUnit{}, GatedUnit{.limit = 0.7, .offset = 1.0}}) {
      const std::string suffix = unit.offset != 0 ? "_clamped" : "";
      made.push_back(
          {"swiglu" + suffix, true,
           [=](const auto& x, const auto& b) { return bias_swiglu(x, b, unit); },
           [=](const auto& x, const auto& b) { return reference::bias_swiglu(x, b, unit); }});
      made.push_back(
          {"quick_geglu" + suffix, true,
           [=](const auto& x, const auto& b) { return bias_quick_geglu(x, b, unit); },
           [=](const auto& x, const auto& b) { return reference::bias_quick_geglu(x, b, unit); }});
    }
    for (const bool tanh_form : {false, true}) {
      const std::string suffix = tanh_form ? "_tanh" : "";
      made.push_back(
          {"gelu" + suffix, false,
           [=](const auto& x, const auto& b) { return bias_gelu(x, b, tanh_form); },
           [=](const auto& x, const auto& b) { return reference::bias_gelu(x, b, tanh_form); }});
      made.push_back(
          {"geglu" + suffix, true,
           [=](const auto& x, const auto& b) { return bias_geglu(x, b, tanh_form); },
           [=](const auto& x, const auto& b) { return reference::bias_geglu(x, b, tanh_form); }});
    }
    return made;
  }();
  return all;
}

Operator as_operator(const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& f) {
  return [f](const std::vector<at::Tensor>& inputs) { return f(inputs[0], inputs[1]); };
}

// The reference of an fp32 operator in fp64: its own erf in fp32 is off by more than the bound.
Operator as_oracle(const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& f) {
  return [f](const std::vector<at::Tensor>& inputs) {
    const at::ScalarType dtype = inputs[0].scalar_type();
    const auto widened = [&](const at::Tensor& x) {
      return x.defined() && dtype == at::kFloat ? x.to(at::kDouble) : x;
    };
    return f(widened(inputs[0]), widened(inputs[1])).to(dtype);
  };
}

TEST(Activation, LikeTheReference) {
  for (const Case& test : cases()) {
    for (const auto dtype : all_dtypes()) {
      for (const bool with_bias : {true, false}) {
        // Odd sizes; enough rows for several blocks of the bias gradient.
        for (const auto& shape : {std::vector<int64_t>{37, 3, 50}, {6}, {1, 2}, {0, 4}}) {
          const at::Tensor x = 2 * random_tensor(shape, dtype, 1);
          const at::Tensor bias =
              with_bias ? random_tensor({shape.back()}, dtype, 2) : at::Tensor();
          expect_like_reference(as_operator(test.op), as_oracle(test.reference), {x, bias},
                                tolerance(dtype), test.name);
        }
      }
    }
  }
}

TEST(Activation, GradientsByDifferences) {
  for (const Case& test : cases()) {
    SCOPED_TRACE(test.name);
    expect_gradients_by_differences(
        as_operator(test.op),
        {random_tensor({3, 2, 10}, at::kDouble, 3), random_tensor({10}, at::kDouble, 4)});
  }
}

TEST(Activation, StridedInput) {
  const at::Tensor x = random_tensor({20, 6, 5}, at::kFloat, 5).transpose(0, 2);
  for (const Case& test : cases()) {
    expect_close(test.op(x, {}), test.reference(x, {}), 3e-6, test.name);
  }
}

TEST(Activation, TailsAndInfinities) {
  const float infinity = std::numeric_limits<float>::infinity();
  const at::Tensor x = at::tensor({-100.f, -12.f, -6.f, -3.f, 0.f, 3.f, 12.f, 100.f, infinity});
  const at::Tensor y = bias_gelu(x, {}, /*tanh_form=*/false);
  EXPECT_EQ(y[0].item<float>(), 0.0f);
  // The lower tail keeps its relative accuracy: -6 Phi(-6).
  EXPECT_NEAR(y[2].item<float>() / -5.919525869e-9, 1.0, 1e-5);
  EXPECT_EQ(y[4].item<float>(), 0.0f);
  EXPECT_EQ(y[7].item<float>(), 100.0f);
  EXPECT_EQ(y[8].item<float>(), infinity);
  const at::Tensor nan = bias_gelu(at::full({20}, NAN), {}, true);
  EXPECT_TRUE(nan.isnan().all().item<bool>());
}

TEST(Activation, ShapeErrors) {
  const at::Tensor x = random_tensor({2, 5}, at::kFloat, 1);
  expect_error([&] { bias_swiglu(x, {}); }, "Expected an even last dimension");
  expect_error([&] { bias_gelu(x, at::zeros({4}), false); },
               "Expected bias of shape [5], but got [4]");
  expect_error([&] { bias_gelu(x, at::zeros({5}, at::kDouble), false); }, "Expected bias of dtype");
  expect_error([&] { bias_gelu(at::zeros({2}, at::kLong), {}, false); }, "floating dtype");
  expect_error([&] { bias_gelu(at::Tensor(), {}, false); }, "undefined");
  expect_error([&] { bias_gelu(at::zeros({}), {}, false); }, "at least 1 dimension");
}

}  // namespace
}  // namespace megatron::test
