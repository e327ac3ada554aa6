#include "megatron/ops/loss/cross_entropy.h"

#include <limits>

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

at::Tensor random_targets(int64_t rows, int64_t vocabulary, uint64_t seed) {
  return at::randint(vocabulary, {rows}, at::detail::createCPUGenerator(seed),
                     at::TensorOptions(at::kLong));
}

CrossEntropyStatistics statistics_of(const at::Tensor& logits, const VocabularyBlock& block,
                                     const at::Tensor& targets,
                                     const CrossEntropyParameters& parameters) {
  CrossEntropyStatistics statistics(logits.size(0), logits.options(), parameters);
  cross_entropy_accumulate(statistics, logits, block, targets, parameters);
  return statistics;
}

std::vector<CrossEntropyParameters> parameter_variants(int64_t vocab_size) {
  return {{.vocab_size = vocab_size},
          {.vocab_size = vocab_size, .label_smoothing = 0.1},
          {.vocab_size = vocab_size, .logit_scale = 0.25},
          {.vocab_size = vocab_size, .label_smoothing = 0.3, .logit_scale = 3}};
}

TEST(LocalCrossEntropy, MatchesUnfused) {
  for (const auto dtype : all_dtypes()) {
    const auto wide = dtype == at::kDouble ? at::kDouble : at::kFloat;
    for (const auto& [rows, columns, valid] : {std::tuple<int64_t, int64_t, int64_t>{9, 1003, 1000},
                                               {3, 64, 64},
                                               {2, 7, 1},
                                               {4, 8, 0},
                                               {0, 8, 8}}) {
      for (const auto& parameters : parameter_variants(1200)) {
        const at::Tensor logits = 3 * random_tensor({rows, columns}, dtype, 1);
        const at::Tensor targets = random_targets(rows, 1200, 2);
        const VocabularyBlock block{100, valid};  // some targets are below it, some above
        const auto got = statistics_of(logits, block, targets, parameters);
        CrossEntropyStatistics want(rows, logits.options(), parameters);
        unfused::cross_entropy_accumulate(want, logits, block, targets, parameters);
        expect_close(got.row_max, want.row_max, tolerance(wide), "row_max");
        expect_close(got.sums, want.sums, 20 * tolerance(wide), "sums");
        if (valid == 0) continue;

        at::Tensor grad_loss = random_tensor({rows}, wide, 3);
        if (rows > 1) grad_loss[1] = 0;
        const at::Tensor gradient =
            cross_entropy_grad(logits, block, got, targets, grad_loss, parameters);
        expect_close(
            gradient,
            unfused::cross_entropy_grad(logits, block, want, targets, grad_loss, parameters),
            tolerance(dtype), "gradient");
        EXPECT_TRUE(gradient.narrow(1, valid, columns - valid).eq(0).all().item<bool>());
        at::Tensor in_place = logits.clone();
        cross_entropy_grad_out(in_place, in_place, block, got, targets, grad_loss, parameters);
        expect_identical(in_place, gradient, "in place");
      }
    }
  }
}

// Against the formula -(1 - a') log p_target - a' mean log p: blocks of uneven width, the last with
// padding.
TEST(LocalCrossEntropy, BlocksMatchTheFormula) {
  const int64_t rows = 6, vocabulary = 50;
  for (const auto& parameters : parameter_variants(vocabulary)) {
    const at::Tensor logits = random_tensor({rows, vocabulary}, at::kDouble, 1).requires_grad_();
    const at::Tensor targets = random_targets(rows, vocabulary, 2);
    const at::Tensor log_p = at::log_softmax(logits * parameters.logit_scale, 1);
    const double smoothing = parameters.label_smoothing * 50.0 / 49.0;
    const at::Tensor loss = -(1 - smoothing) * log_p.gather(1, targets.unsqueeze(1)).squeeze(1) -
                            smoothing * log_p.mean(1);
    const at::Tensor weights = random_tensor({rows}, at::kDouble, 3);
    const auto want = torch::autograd::grad({loss}, {logits}, {weights})[0];

    const at::Tensor padded = at::constant_pad_nd(logits.detach(), {0, 2}, 77.0);
    const std::vector<std::pair<at::Tensor, VocabularyBlock>> blocks = {
        {padded.narrow(1, 0, 17), {0, 17}},
        {padded.narrow(1, 17, 24), {17, 24}},
        {padded.narrow(1, 41, 11), {41, 9}}};
    CrossEntropyStatistics statistics(rows, padded.options(), parameters);
    for (const auto& [columns, block] : blocks) {
      cross_entropy_accumulate(statistics, columns, block, targets, parameters);
    }
    expect_close(cross_entropy_loss(statistics, parameters), loss.detach(), 1e-12);
    std::vector<at::Tensor> gradients;
    for (const auto& [columns, block] : blocks) {
      gradients.push_back(
          cross_entropy_grad(columns, block, statistics, targets, weights, parameters));
    }
    expect_close(at::cat(gradients, 1).narrow(1, 0, vocabulary), want, 1e-12);
  }
}

TEST(LocalCrossEntropy, DoesNotDependOnThreads) {
  const CrossEntropyParameters parameters{.vocab_size = 5003, .label_smoothing = 0.1};
  const at::Tensor logits = random_tensor({33, 5003}, at::kFloat, 1);
  const at::Tensor targets = random_targets(33, 5003, 2);
  const at::Tensor grad_loss = random_tensor({33}, at::kFloat, 3);
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> sums, gradients;
  for (const int count : {1, 2}) {
    at::set_num_threads(count);
    const auto s = statistics_of(logits, {0, 5000}, targets, parameters);
    sums.push_back(s.sums);
    gradients.push_back(cross_entropy_grad(logits, {0, 5000}, s, targets, grad_loss, parameters));
  }
  at::set_num_threads(threads);
  expect_identical(sums[0], sums[1]);
  expect_identical(gradients[0], gradients[1]);
}

TEST(LocalCrossEntropy, PropagatesNaNAndAcceptsMinusInfinity) {
  const CrossEntropyParameters parameters{.vocab_size = 80};
  at::Tensor logits = random_tensor({3, 80}, at::kFloat, 1);
  logits[1][3] = NAN;
  logits[2].narrow(0, 0, 40).fill_(-std::numeric_limits<float>::infinity());
  const at::Tensor targets = at::full({3}, 50, at::kLong);
  CrossEntropyStatistics s(3, logits.options(), parameters);
  // In the first block, all logits of the third row are minus infinity.
  cross_entropy_accumulate(s, logits.narrow(1, 0, 40), {0, 40}, targets, parameters);
  cross_entropy_accumulate(s, logits.narrow(1, 40, 40), {40, 40}, targets, parameters);
  const at::Tensor loss = cross_entropy_loss(s, parameters);
  EXPECT_TRUE(std::isnan(loss[1].item<float>()));
  expect_close(loss[2], at::logsumexp(logits[2], 0) - logits[2][50], 1e-6);
  EXPECT_TRUE(std::isfinite(loss[0].item<float>()));
}

TEST(LargestLogits, FirstColumnWins) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const auto dtype : all_dtypes()) {
    at::Tensor logits = random_tensor({6, 70}, at::kDouble, 4).clamp_max(3).to(dtype);
    logits[0][9] = 5;
    logits[0][64] = 5;
    logits[1][68] = 50;  // padding
    logits[1][66] = 6;
    logits[2].fill_(1);
    logits[3][0] = NAN;
    logits[3][31] = 7;
    logits[4].fill_(-infinity);
    logits[5].fill_(NAN);
    const auto got = largest_logits(logits, 67), want = unfused::largest_logits(logits, 67);
    expect_identical(got.column, want.column);
    expect_identical(got.value, want.value);
    expect_identical(got.column, at::tensor({9, 66, 0, 31, 0, 0}, at::kLong));
    EXPECT_EQ(largest_logits(logits, 0).value[0].item<double>(), -infinity);
  }
}

TEST(LocalCrossEntropy, RefusesBadArguments) {
  const CrossEntropyParameters parameters{.vocab_size = 8};
  const at::Tensor logits = at::zeros({2, 8}), targets = at::zeros({2}, at::kLong);
  CrossEntropyStatistics s(2, logits.options(), parameters);
  const auto add = [&](const at::Tensor& l, int64_t valid, const at::Tensor& t) {
    cross_entropy_accumulate(s, l, {0, valid}, t, parameters);
  };
  expect_error([&] { add(logits[0], 8, targets); }, "Expected logits of shape [t, v_p]");
  expect_error([&] { add(logits, 9, targets); }, "Expected 0 to 8 valid columns, but got 9");
  expect_error([&] { add(logits, 8, targets[0]); }, "Expected targets of shape [2]");
  expect_error([&] { add(logits, 8, targets.to(at::kInt)); }, "int64");
  expect_error([&] { add(at::zeros({3, 8}), 8, targets); }, "Expected row_max of shape [3]");
  expect_error(
      [&] {
        cross_entropy_grad(logits, {0, 8}, s, targets, at::ones({2}, at::kDouble), parameters);
      },
      "Expected a contiguous grad_loss of dtype fp32");
  expect_error([] { CrossEntropyParameters{.vocab_size = 8, .label_smoothing = 1}.validate(); },
               "below 1, but got 1");
  expect_error([] { CrossEntropyParameters{.vocab_size = 1, .label_smoothing = 0.1}.validate(); },
               "at least 2 for label smoothing");
  expect_error([] { CrossEntropyParameters{.vocab_size = 8, .logit_scale = 0}.validate(); },
               "logit scale above 0, but got 0");
}

}  // namespace
}  // namespace megatron::test
