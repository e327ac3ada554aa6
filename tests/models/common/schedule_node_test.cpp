#include "megatron/models/common/schedule_node.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

TEST(ScheduleNode, HasItsOwnGraph) {
  const at::Tensor weight = at::full({3}, 2.0).requires_grad_();
  ScheduleNode node([&](const Tensors& x) { return Tensors{x[0] * weight}; });
  const at::Tensor input = at::arange(3, at::kFloat);
  const at::Tensor output = node.forward({input})[0];
  EXPECT_TRUE(output.equal(input * 2));
  EXPECT_FALSE(output.requires_grad()) << "the output is detached";
  const at::Tensor grad = node.backward({at::full({3}, 5.0)})[0];
  EXPECT_TRUE(grad.equal(at::full({3}, 10.0)));
  EXPECT_TRUE(weight.grad().equal(input * 5));
}

TEST(ScheduleNode, CarriesSeveralTensors) {
  // Two of three inputs and outputs have gradients; one output has none in this pass.
  ScheduleNode node([](const Tensors& in) {
    return Tensors{in[0] * in[2], at::Tensor(), in[2] * 3, in[0] + 1};
  });
  const at::Tensor a = at::full({2}, 2.0), b = at::full({2}, 7.0);
  const Tensors outputs = node.forward({a, at::Tensor(), b});
  ASSERT_EQ(outputs.size(), 4u);
  EXPECT_TRUE(outputs[0].equal(a * b) && outputs[2].equal(b * 3) && outputs[3].equal(a + 1));
  EXPECT_FALSE(outputs[1].defined());
  const at::Tensor one = at::ones({2});
  const Tensors grads = node.backward({one, at::Tensor(), one * 10, at::Tensor()});
  ASSERT_EQ(grads.size(), 3u);
  EXPECT_TRUE(grads[0].equal(b) && grads[2].equal(a + 30));
  EXPECT_FALSE(grads[1].defined());
  node.forward({a, at::Tensor(), b});
  EXPECT_THROW(node.backward({one}), Error) << "gradients of four outputs";
}

TEST(ScheduleNode, RunsForwardThenBackward) {
  ScheduleNode node([](const Tensors& x) { return Tensors{x[0] * 2}; });
  const Tensors one = {at::ones({1})};
  EXPECT_THROW(node.backward(one), Error);
  node.forward(one);
  EXPECT_THROW(node.forward(one), Error);
  node.backward(one);
  EXPECT_THROW(node.backward(one), Error) << "the graph is freed";
  EXPECT_NO_THROW(node.forward(one));
  node.release();
  {
    const at::NoGradGuard no_grad;
    node.forward(one);
  }
  EXPECT_THROW(node.backward(one), Error) << "forward ran without grad mode";
}

TEST(ScheduleNode, EmptyNodeReturnsItsInput) {
  ScheduleNode node;
  const at::Tensor one = at::ones({1});
  EXPECT_TRUE(node.is_empty());
  EXPECT_TRUE(node.forward({one})[0].is_same(one));
  EXPECT_TRUE(node.backward({one})[0].is_same(one));
}

}  // namespace
}  // namespace megatron
