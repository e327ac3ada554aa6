#include "megatron/models/common/schedule_node.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

TEST(ScheduleNode, HasItsOwnGraph) {
  const at::Tensor weight = at::full({3}, 2.0).requires_grad_();
  ScheduleNode node([&](const at::Tensor& x) { return x * weight; });
  const at::Tensor input = at::arange(3, at::kFloat);
  const at::Tensor output = node.forward(input);
  EXPECT_TRUE(output.equal(input * 2));
  EXPECT_FALSE(output.requires_grad()) << "the output is detached";
  const at::Tensor grad = node.backward(at::full({3}, 5.0));
  EXPECT_TRUE(grad.equal(at::full({3}, 10.0)));
  EXPECT_TRUE(weight.grad().equal(input * 5));
}

TEST(ScheduleNode, RunsForwardThenBackward) {
  ScheduleNode node([](const at::Tensor& x) { return x * 2; });
  const at::Tensor one = at::ones({1});
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
  EXPECT_TRUE(node.forward(one).is_same(one));
  EXPECT_TRUE(node.backward(one).is_same(one));
}

}  // namespace
}  // namespace megatron
