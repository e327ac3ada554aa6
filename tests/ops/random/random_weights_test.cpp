#include "megatron/ops/random/random_weights.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

at::Tensor full_tensor(at::IntArrayRef shape, at::ScalarType dtype, const std::string& name = "w") {
  at::Tensor tensor = at::empty(shape, dtype);
  const std::vector<int64_t> origin(shape.size(), 0);
  fill_normal(tensor, 0.02, 42, name, shape, origin);
  return tensor;
}

TEST(FillNormal, ElementsEqualTheReference) {
  const at::Tensor got = full_tensor({7, 33}, at::kDouble);
  for (int64_t i = 0; i < got.numel(); ++i) {
    EXPECT_NEAR(got.view({-1})[i].item<double>(), reference::normal_element(0.02, 42, "w", i),
                1e-15);
  }
  EXPECT_TRUE(at::equal(full_tensor({7, 33}, at::kFloat), got.to(at::kFloat)));
  EXPECT_TRUE(at::equal(full_tensor({7, 33}, at::kHalf), got.to(at::kHalf)));
  EXPECT_EQ(full_tensor({}, at::kDouble).item<double>(), got[0][0].item<double>());
}

TEST(FillNormal, DrawsFromTheNormalDistribution) {
  const at::Tensor z = full_tensor({1000, 1000}, at::kDouble).view({-1}) / 0.02;
  EXPECT_NEAR(z.mean().item<double>(), 0, 4e-3);
  EXPECT_NEAR(z.square().mean().item<double>(), 1, 6e-3);
  EXPECT_NEAR(z.pow(3).mean().item<double>(), 0, 0.015);
  EXPECT_NEAR(z.pow(4).mean().item<double>(), 3, 0.04);
  // The fraction of elements below each bound.
  for (const double bound : {-3.0, -1.5, -0.5, 0.0, 0.7, 2.0, 3.5}) {
    EXPECT_NEAR(z.lt(bound).to(at::kDouble).mean().item<double>(),
                0.5 * std::erfc(-bound * M_SQRT1_2), 2e-3);
  }
  for (const int64_t lag : {1, 2, 16, 32, 1000}) {
    EXPECT_NEAR((z.slice(0, lag) * z.slice(0, 0, -lag)).mean().item<double>(), 0, 4e-3);
  }
}

TEST(FillNormal, ShardsEqualSlicesOfTheFullTensor) {
  const std::vector<int64_t> shape = {6, 10, 70};
  for (const auto dtype : all_dtypes()) {
    const at::Tensor full = full_tensor(shape, dtype);
    for (const auto& [offset, size] :
         {std::pair<std::vector<int64_t>, std::vector<int64_t>>{{2, 0, 0}, {3, 10, 70}},
          {{0, 5, 0}, {6, 5, 70}},
          {{1, 3, 33}, {4, 6, 37}},
          {{5, 9, 69}, {1, 1, 1}},
          {{0, 0, 0}, {6, 10, 0}}}) {
      at::Tensor shard = at::empty(size, dtype);
      fill_normal(shard, 0.02, 42, "w", shape, offset);
      at::Tensor want = full;
      for (int64_t i = 0; i < 3; ++i) want = want.narrow(i, offset[i], size[i]);
      expect_identical(shard, want);
      // A strided view.
      at::Tensor storage = at::zeros({size[2], size[1], size[0]}, dtype);
      at::Tensor view = storage.permute({2, 1, 0});
      fill_normal(view, 0.02, 42, "w", shape, offset);
      expect_identical(view, want);
    }
  }
}

TEST(FillNormal, DependsOnSeedAndNameButNotOnThreads) {
  const at::Tensor base = full_tensor({300, 100}, at::kFloat);
  at::Tensor other = at::empty({300, 100});
  fill_normal(other, 0.02, 43, "w", {300, 100}, {0, 0});
  EXPECT_NEAR((base * other).mean().item<double>() / 4e-4, 0, 0.03);
  EXPECT_NEAR((base * full_tensor({300, 100}, at::kFloat, "v")).mean().item<double>() / 4e-4, 0,
              0.03);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  expect_identical(full_tensor({300, 100}, at::kFloat), base);
  at::set_num_threads(2);
  expect_identical(full_tensor({300, 100}, at::kFloat), base);
  at::set_num_threads(threads);
}

TEST(FillNormal, AcceptsALeafThatRequiresGrad) {
  at::Tensor leaf = at::zeros({4, 4}).requires_grad_();
  fill_normal(leaf, 1.0, 1, "w", {4, 4}, {0, 0});
  EXPECT_TRUE(leaf.is_leaf());
  EXPECT_FALSE(leaf.detach().eq(0).any().item<bool>());
}

TEST(FillNormal, RefusesInvalidArguments) {
  at::Tensor shard = at::zeros({2, 3});
  expect_error([&] { fill_normal(shard, 1, 1, "w", {4}, {0}); }, "2 dimensions");
  expect_error([&] { fill_normal(shard, 1, 1, "w", {4, 3}, {3, 0}); }, "block inside");
  expect_error([&] { fill_normal(shard, 1, 1, "w", {4, 3}, {-1, 0}); }, "block inside");
  expect_error([&] { fill_normal(shard, -1, 1, "w", {2, 3}, {0, 0}); }, "standard deviation");
  at::Tensor ids = at::zeros({2}, at::kLong);
  expect_error([&] { fill_normal(ids, 1, 1, "w", {2}, {0}); }, "floating");
}

}  // namespace
}  // namespace megatron::test
