#include "megatron/ops/recompute.h"

#include <torch/csrc/autograd/autograd.h>

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

at::Tensor leaf(at::IntArrayRef shape, uint64_t seed) {
  return random_tensor(shape, at::kDouble, seed).requires_grad_();
}

// A function with a parameter, which counts its runs.
struct CountedFunction {
  at::Tensor weight = leaf({4}, 7);
  int runs = 0;

  at::Tensor operator()(const at::Tensor& x, const at::Tensor& y) {
    ++runs;
    return at::tanh(x * weight) * at::exp(y);
  }
};

TEST(Recompute, RunsOnceInForwardAndOnceInBackward) {
  CountedFunction counted_function;
  const auto counted = [&](const at::Tensor& x, const at::Tensor& y) {
    return counted_function(x, y);
  };
  const at::Tensor x = leaf({3, 4}, 1), y = leaf({3, 4}, 2);
  const at::Tensor result = recompute_if(true, counted, x * 2, y * 3);
  EXPECT_EQ(counted_function.runs, 1);
  result.sum().backward();
  EXPECT_EQ(counted_function.runs, 2);
  const at::Tensor gradients[] = {x.grad(), y.grad(), counted_function.weight.grad()};
  for (at::Tensor* tensor :
       {const_cast<at::Tensor*>(&x), const_cast<at::Tensor*>(&y), &counted_function.weight})
    tensor->mutable_grad().reset();
  recompute_if(false, counted, x * 2, y * 3).sum().backward();
  EXPECT_EQ(counted_function.runs, 3);
  expect_identical(gradients[0], x.grad());
  expect_identical(gradients[1], y.grad());
  expect_identical(gradients[2], counted_function.weight.grad());
}

TEST(Recompute, GradientsMatchFiniteDifferences) {
  const Operator nested = [](const std::vector<at::Tensor>& in) {
    const auto function = [](const at::Tensor& x, const at::Tensor& y) {
      return at::tanh(x * y).cumsum(0) + x;
    };
    const at::Tensor outer = recompute_if(true, function, in[0] * in[1], in[1]);
    return recompute_if(true, function, outer, in[0]);
  };
  const std::vector<at::Tensor> inputs = {random_tensor({3, 4}, at::kDouble, 1),
                                          random_tensor({3, 4}, at::kDouble, 2)};
  expect_gradients_by_differences(nested, inputs);
  // Two outputs, one of them used twice; both are discarded between forward and backward.
  const Operator discarded = [](const std::vector<at::Tensor>& in) {
    const Recomputation recomputation(true,
                                      [](const Tensors& x) {
                                        return Tensors{at::tanh(x[0]), x[0] * x[1]};
                                      },
                                      {in[0] * 2, in[1]});
    const at::Tensor product = recomputation.outputs()[0] * recomputation.outputs()[1];
    const at::Tensor result = at::sigmoid(product) * recomputation.outputs()[1];
    recomputation.discard_outputs(result);
    return result * in[0];
  };
  expect_gradients_by_differences(discarded, inputs);
}

TEST(Recompute, RestoresDiscardedOutputsForBackward) {
  const at::Tensor x = leaf({5, 4}, 1), weight = leaf({4, 4}, 2);
  const Recomputation recomputation(
      true, [](const Tensors& in) { return Tensors{at::tanh(in[0])}; }, {x});
  const at::Tensor& output = recomputation.outputs()[0];
  const at::Tensor values = output.detach().clone(), alias = output.view({4, 5});
  const at::Tensor result = at::mm(output, weight);
  recomputation.discard_outputs(result);
  EXPECT_EQ(output.storage().data(), nullptr);
  EXPECT_THROW(alias.const_data_ptr<double>(), c10::Error);
  result.sum().backward({}, /*retain_graph=*/true);
  expect_identical(output.detach(), values);
  expect_identical(alias.detach(), values.view({4, 5}));
  expect_identical(weight.grad(), at::mm(values.t(), at::ones({5, 4}, at::kDouble)));
  result.sum().backward();  // a second backward through the retained graph
  expect_identical(weight.grad(), 2 * at::mm(values.t(), at::ones({5, 4}, at::kDouble)));
}

TEST(Recompute, DoesNotDiscardTheStorageOfInputs) {
  const at::Tensor x = leaf({5, 4}, 1);
  const Recomputation recomputation(true,
                                    [](const Tensors& in) {
                                      return Tensors{in[0].view({5, 4}), in[0] * 2};
                                    },
                                    {x});
  const at::Tensor result = (recomputation.outputs()[0] * recomputation.outputs()[1]).sum();
  recomputation.discard_outputs(result);
  EXPECT_NE(x.storage().data(), nullptr);
  EXPECT_NE(recomputation.outputs()[0].storage().data(), nullptr);
  EXPECT_EQ(recomputation.outputs()[1].storage().data(), nullptr);
}

TEST(Recompute, DoesNotRecomputeWithoutGradMode) {
  CountedFunction counted_function;
  const at::Tensor x = leaf({4}, 1);
  const at::NoGradGuard no_grad;
  const Recomputation result(
      true, [&](const Tensors& in) { return Tensors{counted_function(in[0], in[0])}; }, {x});
  EXPECT_EQ(counted_function.runs, 1);
  EXPECT_FALSE(result.outputs()[0].requires_grad());
  result.discard_outputs(result.outputs()[0]);
  EXPECT_NE(result.outputs()[0].storage().data(), nullptr);
}

TEST(Recompute, DoesNotRecomputeIfNothingRequiresAGradient) {
  CountedFunction counted_function;
  counted_function.weight = counted_function.weight.detach();
  const auto counted = [&](const at::Tensor& x, const at::Tensor& y) {
    return counted_function(x, y);
  };
  const at::Tensor x = random_tensor({4}, at::kDouble, 1);
  const at::Tensor result = recompute_if(true, counted, x, at::zeros({4}, at::kDouble));
  EXPECT_EQ(counted_function.runs, 1);
  EXPECT_FALSE(result.requires_grad());
}

TEST(Recompute, ReachesParametersIfNoInputRequiresAGradient) {
  CountedFunction counted_function;
  const auto counted = [&](const at::Tensor& x, const at::Tensor& y) {
    return counted_function(x, y);
  };
  const at::Tensor x = random_tensor({4}, at::kDouble, 1), y = random_tensor({4}, at::kDouble, 2);
  recompute_if(true, counted, x, y).sum().backward();
  EXPECT_EQ(counted_function.runs, 2);
  const at::Tensor tanh = at::tanh(x * counted_function.weight);
  expect_close(counted_function.weight.grad(), ((1 - tanh * tanh) * x * at::exp(y)).detach(),
               1e-14);
}

TEST(Recompute, AcceptsUndefinedAndIntegerTensors) {
  const at::Tensor x = leaf({3, 4}, 1), ids = at::arange(2, at::kLong);
  const Recomputation recomputation(true,
                                    [](const Tensors& in) {
                                      EXPECT_FALSE(in[2].defined());
                                      return Tensors{in[0].index_select(0, in[1]), at::Tensor()};
                                    },
                                    {x, ids, at::Tensor()});
  EXPECT_FALSE(recomputation.outputs()[1].defined());
  recomputation.outputs()[0].sum().backward();
  EXPECT_EQ(x.grad().sum().item<double>(), 8);
}

TEST(Recompute, RefusesUnsupportedBackward) {
  const auto function = [](const at::Tensor& x) { return at::tanh(x); };
  const at::Tensor x = leaf({4}, 1);
  const auto fresh = [&] { return recompute_if(true, function, x).sum(); };
  expect_error([&] { torch::autograd::grad({fresh()}, {x}); }, "grad() of chosen inputs");
  expect_error([&] { fresh().backward({}, /*retain_graph=*/true, /*create_graph=*/true); },
               "without create_graph");
  const at::Tensor result = fresh();
  result.backward();
  EXPECT_THROW(result.backward(), std::exception);
  const at::Tensor input = leaf({4}, 1) * 2;
  const at::Tensor changed = recompute_if(true, function, input).sum();
  input.add_(1);
  EXPECT_THROW(changed.backward(), c10::Error);  // backward would read the modified input
}

}  // namespace
}  // namespace megatron::test
