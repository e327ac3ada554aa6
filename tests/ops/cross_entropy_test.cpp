#include "megatron/ops/cross_entropy.h"

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

struct Statistics {
  at::Tensor row_max, sum_exp, target_logit;
};

at::Tensor random_targets(int64_t rows, int64_t vocabulary, uint64_t seed) {
  return at::randint(vocabulary, {rows}, at::detail::createCPUGenerator(seed),
                     at::TensorOptions(at::kLong));
}

TEST(CrossEntropy, LikeTheReference) {
  for (const auto dtype : all_dtypes()) {
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    for (const auto& [rows, columns, valid] : {std::tuple<int64_t, int64_t, int64_t>{9, 1003, 1000},
                                               {3, 64, 64},
                                               {2, 7, 1},
                                               {4, 8, 0},
                                               {0, 8, 8}}) {
      const at::Tensor logits = 5 * random_tensor({rows, columns}, dtype, 1);
      const at::Tensor targets = random_targets(rows, 1200, 2);
      const int64_t start = 100;  // some targets lie on either side of this shard
      Statistics got, want;
      cross_entropy_rows(logits, valid, targets, start, got.row_max, got.sum_exp, got.target_logit);
      reference::cross_entropy_rows(logits, valid, targets, start, want.row_max, want.sum_exp,
                                    want.target_logit);
      expect_identical(got.row_max, want.row_max, "row_max");
      if (valid > 0) {
        expect_close(got.sum_exp, want.sum_exp, tolerance(wide) * 2, "sum_exp");
        expect_close(got.target_logit, want.target_logit, tolerance(wide), "target_logit");
      }
      Statistics apart;
      cross_entropy_row_max(logits, valid, apart.row_max);
      cross_entropy_row_sums(logits, valid, apart.row_max, targets, start, apart.sum_exp,
                             apart.target_logit);
      expect_identical(apart.row_max, got.row_max);
      if (valid > 0) expect_identical(apart.sum_exp, got.sum_exp);
      expect_identical(apart.target_logit, got.target_logit);

      if (valid == 0) continue;
      at::Tensor grad_loss = random_tensor({rows}, wide, 3);
      if (rows > 1) grad_loss[1] = 0;
      const at::Tensor gradient =
          cross_entropy_grad(logits, valid, got.row_max, got.sum_exp, targets, start, grad_loss);
      expect_close(gradient,
                   reference::cross_entropy_grad(logits, valid, want.row_max, want.sum_exp, targets,
                                                 start, grad_loss),
                   tolerance(dtype), "gradient");
      EXPECT_TRUE(gradient.narrow(1, valid, columns - valid).eq(0).all().item<bool>());
      at::Tensor in_place = logits.clone();
      cross_entropy_grad_into(in_place, in_place, valid, got.row_max, got.sum_exp, targets, start,
                              grad_loss);
      expect_identical(in_place, gradient, "in place");
    }
  }
}

TEST(CrossEntropy, ShardsComposeToLibtorchsLoss) {
  const int64_t rows = 6, vocabulary = 50, shard = 26;  // 2 shards of 26: two columns of padding
  const at::Tensor logits = random_tensor({rows, vocabulary}, at::kDouble, 1).requires_grad_();
  const at::Tensor targets = random_targets(rows, vocabulary, 2);
  const at::Tensor loss = at::cross_entropy_loss(logits, targets, {}, at::Reduction::None);
  const at::Tensor weights = random_tensor({rows}, at::kDouble, 3);
  const auto want = torch::autograd::grad({loss}, {logits}, {weights})[0];

  const at::Tensor padded = at::constant_pad_nd(logits.detach(), {0, 2}, 77.0);
  const std::vector<at::Tensor> shards = {padded.narrow(1, 0, shard),
                                          padded.narrow(1, shard, shard)};
  const std::vector<int64_t> valid = {26, 24};
  std::vector<Statistics> parts(2);
  for (int i = 0; i < 2; ++i) cross_entropy_row_max(shards[i], valid[i], parts[i].row_max);
  const at::Tensor row_max = at::maximum(parts[0].row_max, parts[1].row_max);
  for (int i = 0; i < 2; ++i) {
    cross_entropy_row_sums(shards[i], valid[i], row_max, targets, i * shard, parts[i].sum_exp,
                           parts[i].target_logit);
  }
  const at::Tensor sum_exp = parts[0].sum_exp + parts[1].sum_exp;
  expect_close(sum_exp.log() - parts[0].target_logit - parts[1].target_logit, loss.detach(), 1e-12);
  std::vector<at::Tensor> gradients;
  for (int i = 0; i < 2; ++i) {
    gradients.push_back(
        cross_entropy_grad(shards[i], valid[i], row_max, sum_exp, targets, i * shard, weights));
  }
  expect_close(at::cat(gradients, 1).narrow(1, 0, vocabulary), want, 1e-12);
}

TEST(CrossEntropy, ThreadsDoNotChangeTheBits) {
  const at::Tensor logits = random_tensor({33, 5003}, at::kFloat, 1);
  const at::Tensor targets = random_targets(33, 5003, 2);
  const at::Tensor grad_loss = random_tensor({33}, at::kFloat, 3);
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> sums, gradients;
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    Statistics s;
    cross_entropy_rows(logits, 5000, targets, 0, s.row_max, s.sum_exp, s.target_logit);
    sums.push_back(s.sum_exp);
    gradients.push_back(
        cross_entropy_grad(logits, 5000, s.row_max, s.sum_exp, targets, 0, grad_loss));
  }
  at::set_num_threads(threads);
  expect_identical(sums[0], sums[1]);
  expect_identical(gradients[0], gradients[1]);
}

TEST(CrossEntropy, NanShows) {
  at::Tensor logits = random_tensor({2, 40}, at::kFloat, 1);
  logits[1][3] = NAN;
  Statistics s;
  cross_entropy_rows(logits, 40, at::zeros({2}, at::kLong), 0, s.row_max, s.sum_exp,
                     s.target_logit);
  EXPECT_FALSE(s.sum_exp[0].isnan().item<bool>());
  EXPECT_TRUE(s.sum_exp[1].isnan().item<bool>());
}

TEST(CrossEntropy, ShapeErrors) {
  const at::Tensor logits = at::zeros({2, 8}), targets = at::zeros({2}, at::kLong);
  Statistics s;
  const auto rows = [&](const at::Tensor& l, int64_t valid, const at::Tensor& t) {
    cross_entropy_rows(l, valid, t, 0, s.row_max, s.sum_exp, s.target_logit);
  };
  expect_error([&] { rows(logits[0], 8, targets); }, "Expected logits of shape [t, v_p]");
  expect_error([&] { rows(logits, 9, targets); }, "Expected valid_columns of 0 to 8, but got 9");
  expect_error([&] { rows(logits, 8, targets[0]); }, "Expected targets of shape [2]");
  expect_error([&] { rows(logits, 8, targets.to(at::kInt)); }, "int64");
  rows(logits, 8, targets);
  expect_error(
      [&] {
        cross_entropy_grad(logits, 8, s.row_max, s.sum_exp, targets, 0, at::ones({2}, at::kDouble));
      },
      "Expected grad_loss of dtype fp32");
}

}  // namespace
}  // namespace megatron::test
