#include "megatron/ops/embedding.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

at::Tensor random_ids(int64_t b, int64_t s, int64_t vocabulary) {
  return at::randint(vocabulary, {b, s}, at::detail::createCPUGenerator(9),
                     at::TensorOptions(at::kLong));
}

TEST(Embedding, MatchesUnfusedInFp64) {
  for (const auto dtype : all_dtypes()) {
    for (const int64_t h : {1, 70, 128}) {
      const at::Tensor ids = random_ids(3, 40, 30);
      // The shard holds ids 10 to 19, and many ids repeat.
      expect_like_reference(
          [&](const auto& in) { return embedding_lookup(in[0], ids, 10, {}); },
          in_fp64([&](const auto& in) { return unfused::embedding_lookup(in[0], ids, 10); }),
          {random_tensor({10, h}, dtype, 1)}, tolerance(dtype), "embedding");
    }
  }
}

TEST(Embedding, OutputIsSequenceFirst) {
  const at::Tensor weight = random_tensor({9, 4}, at::kFloat, 1), ids = random_ids(2, 5, 9);
  const at::Tensor out = embedding_lookup(weight, ids, 0, {});
  EXPECT_EQ(out.sizes(), (std::vector<int64_t>{5, 2, 4}));
  for (int64_t s = 0; s < 5; ++s) {
    for (int64_t b = 0; b < 2; ++b) {
      expect_identical(out[s][b], weight[ids[b][s].item<int64_t>()]);
    }
  }
}

TEST(Embedding, AccumulatesMicroBatchesIntoMainGrad) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor weight = random_tensor({12, 33}, dtype, 1).requires_grad_();
    at::Tensor main_grad = at::zeros({12, 33}, wide);
    std::vector<at::Tensor> outputs;
    const at::Tensor first = random_ids(2, 9, 14), second = random_ids(1, 5, 14);
    outputs.push_back(embedding_lookup(weight, first, 1, main_grad));
    outputs.push_back(embedding_lookup(weight, second, 1, main_grad));
    at::Tensor want = at::zeros({12, 33}, at::kDouble);
    const std::vector<at::Tensor> ids = {first, second};
    for (int i = 0; i < 2; ++i) {
      const at::Tensor cotangent = random_tensor(outputs[i].sizes(), dtype, 20 + i);
      torch::autograd::backward({outputs[i]}, {cotangent});
      const at::Tensor leaf = weight.detach().to(at::kDouble).requires_grad_();
      want += torch::autograd::grad({unfused::embedding_lookup(leaf, ids[i], 1)}, {leaf},
                                    {cotangent.to(at::kDouble)})[0];
    }
    EXPECT_FALSE(weight.grad().defined());
    expect_close(main_grad, want.to(wide), dtype == at::kHalf ? 2e-2 : tolerance(wide));
  }
}

TEST(Embedding, AcceptsNoIdsAndIdsOutsideTheShard) {
  const at::Tensor weight = random_tensor({4, 3}, at::kFloat, 1);
  EXPECT_EQ(embedding_lookup(weight, at::empty({2, 0}, at::kLong), 0, {}).numel(), 0);
  EXPECT_TRUE(embedding_lookup(weight, random_ids(2, 3, 100) + 50, 0, {}).eq(0).all().item<bool>());
}

TEST(Embedding, GradientsMatchFiniteDifferences) {
  const at::Tensor ids = random_ids(2, 4, 6);
  expect_gradients_by_differences(
      [&](const auto& in) { return embedding_lookup(in[0], ids, 2, {}); },
      {random_tensor({3, 4}, at::kDouble, 1)});
}

TEST(Embedding, RefusesBadArguments) {
  const at::Tensor weight = at::zeros({4, 3}), ids = at::zeros({2, 2}, at::kLong);
  expect_error([&] { embedding_lookup(weight[0], ids, 0, {}); }, "[v_p, h]");
  expect_error([&] { embedding_lookup(weight, ids[0], 0, {}); }, "[b, s]");
  expect_error([&] { embedding_lookup(weight, ids.to(at::kInt), 0, {}); }, "int64");
  expect_error([&] { embedding_lookup(weight, ids - 1, 0, {}); }, "at least 0, but got -1");
  expect_error([&] { embedding_lookup(weight, ids, 0, at::zeros({4, 2})); }, "main_grad");
  expect_error(
      [&] {
        embedding_lookup(weight, ids, 0, at::zeros({4, 3}, at::kDouble));
      },
      "contiguous main_grad of dtype fp32");
}

}  // namespace
}  // namespace megatron::test
