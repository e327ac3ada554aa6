// Views and autograd's saved variables across freeing and allocating a buffer again.
#include "megatron/data_parallel/flat_buffer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace megatron {
namespace {

TEST(FlatBuffer, ViewsSeeTheNewMemory) {
  FlatBuffer buffer(16, at::kFloat);
  const at::Tensor view = buffer.tensor().narrow(0, 4, 8).view({2, 4});
  buffer.free();
  buffer.free();
  EXPECT_FALSE(buffer.is_allocated());
  EXPECT_EQ(buffer.tensor().storage().data(), nullptr);
  EXPECT_EQ(view.sizes(), (at::IntArrayRef{2, 4}));
  buffer.allocate();
  buffer.tensor().copy_(at::arange(16, at::kFloat));
  EXPECT_TRUE(at::equal(view, at::arange(4, 12, at::kFloat).view({2, 4})));
  EXPECT_TRUE(at::equal(buffer.shard(1, 2), at::arange(8, 16, at::kFloat)));
}

TEST(FlatBuffer, BackwardReadsTheValuesOfItsTime) {
  FlatBuffer buffer(4, at::kDouble);
  buffer.tensor().fill_(2);
  at::Tensor weight = at::zeros({4}, at::kDouble).set_requires_grad(true);
  weight.set_data(buffer.tensor());
  const at::Tensor x = at::ones({4}, at::kDouble).set_requires_grad(true);
  const at::Tensor y = x * weight;
  buffer.free();
  buffer.allocate();
  buffer.tensor().fill_(3);
  torch::autograd::backward({y.sum()}, {});
  EXPECT_TRUE(at::equal(x.grad(), at::full({4}, 3.0, at::kDouble)));
  EXPECT_TRUE(at::equal(weight.grad(), at::ones({4}, at::kDouble)));
}

}  // namespace
}  // namespace megatron
