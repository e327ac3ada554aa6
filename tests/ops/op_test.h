// Shared by the operator tests: seeded inputs, tolerances per dtype, and comparisons of an
// operator's values and gradients with a reference, with finite differences, and over numbers of
// threads.
#pragma once

#include <functional>
#include <gmock/gmock.h>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"

namespace megatron::test {

using Operator = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

inline at::Tensor random_tensor(at::IntArrayRef shape, at::ScalarType dtype, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kDouble))
      .to(dtype);
}

// A relative tolerance of a few roundings of the dtype.
inline double tolerance(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return 1e-12;
    case at::kFloat:
      return 3e-6;
    default:
      return 1.2e-2;  // bf16, fp16: an operator rounds once, a reference possibly several times
  }
}

// Expects |got - want| <= bound * (1 + |want|) in every element, NaN in the same places, and equal
// dtypes and shapes.
inline void expect_close(const at::Tensor& got, const at::Tensor& want, double bound,
                         const std::string& what = "") {
  ASSERT_TRUE(got.defined() && want.defined()) << what;
  ASSERT_EQ(got.scalar_type(), want.scalar_type()) << what;
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  if (want.numel() == 0) return;
  const at::Tensor a = got.detach().to(at::kDouble), b = want.detach().to(at::kDouble);
  const double difference = ((a - b).abs() / (1 + b.abs())).max().item<double>();
  EXPECT_TRUE(at::allclose(a, b, bound, bound, /*equal_nan=*/true))
      << what << ": largest difference " << difference << ", allowed " << bound;
}

inline void expect_identical(const at::Tensor& got, const at::Tensor& want,
                             const std::string& what = "") {
  ASSERT_EQ(got.defined(), want.defined()) << what;
  if (!got.defined()) return;
  ASSERT_EQ(got.scalar_type(), want.scalar_type()) << what;
  EXPECT_TRUE(at::equal(got, want)) << what << ": not bit-identical";
}

struct ValueAndGradients {
  at::Tensor value;
  std::vector<at::Tensor> gradients;  // of the defined floating inputs, in order
};

// Runs the operator on new leaves, and backward from a seeded random cotangent.
inline ValueAndGradients run(const Operator& op, const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> leaves, arguments;
  for (const at::Tensor& input : inputs) {
    if (!input.defined() || !at::isFloatingType(input.scalar_type())) {
      arguments.push_back(input);
      continue;
    }
    leaves.push_back(input.detach().requires_grad_());
    arguments.push_back(leaves.back());
  }
  const at::Tensor value = op(arguments);
  const at::Tensor cotangent =
      random_tensor(value.sizes(), value.scalar_type(), 12345).to(value.device());
  torch::autograd::backward({value}, {cotangent});
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& leaf : leaves) gradients.push_back(leaf.grad());
  return {value.detach(), gradients};
}

// `op` on fp64 copies of its floating inputs, its result rounded to the dtype of the first input: a
// reference whose own rounding does not matter.
inline Operator in_fp64(const Operator& op) {
  return [op](const std::vector<at::Tensor>& inputs) {
    std::vector<at::Tensor> wide;
    for (const at::Tensor& input : inputs) {
      const bool floating = input.defined() && at::isFloatingType(input.scalar_type());
      wide.push_back(floating ? input.to(at::kDouble) : input);
    }
    return op(wide).to(inputs[0].scalar_type());
  };
}

// Compares values and gradients with the reference, and expects the same bits with 1 and 2 threads.
inline void expect_like_reference(const Operator& op, const Operator& reference,
                                  const std::vector<at::Tensor>& inputs, double bound,
                                  const std::string& what) {
  const int threads = at::get_num_threads();
  const auto got = run(op, inputs);
  const auto want = run(reference, inputs);
  expect_close(got.value, want.value, bound, what + ", value");
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    // Sums over rows have more roundings than elements.
    expect_close(got.gradients[i], want.gradients[i], 10 * bound,
                 what + ", gradient " + std::to_string(i));
  }
  at::set_num_threads(1);
  const auto alone = run(op, inputs);
  at::set_num_threads(2);
  const auto shared = run(op, inputs);
  at::set_num_threads(threads);
  expect_identical(shared.value, alone.value, what + ", value with 2 threads");
  for (size_t i = 0; i < alone.gradients.size(); ++i) {
    expect_identical(shared.gradients[i], alone.gradients[i], what + ", gradient with 2 threads");
  }
}

// Compares gradients with central differences. Inputs are fp64.
inline void expect_gradients_by_differences(const Operator& op,
                                            const std::vector<at::Tensor>& inputs,
                                            double bound = 1e-6) {
  const auto analytic = run(op, inputs);
  const at::Tensor cotangent = random_tensor(analytic.value.sizes(), at::kDouble, 12345);
  const auto objective = [&](const std::vector<at::Tensor>& arguments) {
    return (op(arguments).detach() * cotangent).sum().item<double>();
  };
  size_t next = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined() || !at::isFloatingType(inputs[i].scalar_type())) continue;
    ASSERT_EQ(inputs[i].scalar_type(), at::kDouble);
    at::Tensor numeric = at::empty(inputs[i].sizes(), at::kDouble);
    auto arguments = inputs;
    arguments[i] = inputs[i].clone(at::MemoryFormat::Contiguous);
    double* element = arguments[i].mutable_data_ptr<double>();
    double* out = numeric.mutable_data_ptr<double>();
    constexpr double step = 1e-5;
    for (int64_t j = 0; j < numeric.numel(); ++j) {
      const double kept = element[j];
      element[j] = kept + step;
      const double above = objective(arguments);
      element[j] = kept - step;
      const double below = objective(arguments);
      element[j] = kept;
      out[j] = (above - below) / (2 * step);
    }
    expect_close(analytic.gradients[next], numeric, bound, "input " + std::to_string(i));
    ++next;
  }
}

// Expects `body` to throw an Error whose message contains `text`.
template <typename Body>
void expect_error(const Body& body, const std::string& text) {
  try {
    body();
    ADD_FAILURE() << "Expected an Error with '" << text << "', but none was thrown";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
  }
}

inline const std::vector<at::ScalarType>& all_dtypes() {
  static const std::vector<at::ScalarType> dtypes = {at::kFloat, at::kDouble, at::kBFloat16,
                                                     at::kHalf};
  return dtypes;
}

}  // namespace megatron::test
