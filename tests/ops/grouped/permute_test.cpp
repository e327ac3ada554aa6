#include "megatron/ops/grouped/permute.h"

#include <map>

#include "tests/ops/grouped/grouped_test.h"

namespace megatron::test {
namespace {

std::vector<int64_t> list_of(const at::Tensor& x) {
  const auto* data = x.const_data_ptr<int64_t>();
  return {data, data + x.numel()};
}

// Top-k of random scores, with ties.
at::Tensor random_indices(RandomCounts& random, int64_t tokens, int64_t k, int64_t experts) {
  at::Tensor indices = at::empty({tokens, k}, at::TensorOptions(at::kLong));
  auto* out = indices.mutable_data_ptr<int64_t>();
  std::vector<int64_t> order(experts);
  for (int64_t token = 0; token < tokens; ++token) {
    std::iota(order.begin(), order.end(), 0);
    for (int64_t i = 0; i < k; ++i) {
      std::swap(order[i], order[random.between(i, experts - 1)]);
      out[token * k + i] = order[i];
    }
  }
  return indices;
}

at::Tensor map_of(const at::Tensor& indices, int64_t experts) {
  const at::Tensor map = at::zeros({indices.size(0), experts}, at::TensorOptions(at::kBool));
  for (int64_t token = 0; token < indices.size(0); ++token) {
    for (int64_t i = 0; i < indices.size(1); ++i) {
      const int64_t expert = indices[token][i].item<int64_t>();
      if (expert >= 0) map[token][expert] = true;
    }
  }
  return map;
}

TEST(ExpertPermutation, SortsByExpertThenToken) {
  const at::Tensor indices =
      at::tensor({2, 0, 1, 2, 0, 1}, at::TensorOptions(at::kLong)).view({3, 2});
  for (const auto& permutation :
       {permutation_from_indices(indices, 4), permutation_from_map(map_of(indices, 4))}) {
    EXPECT_EQ(list_of(permutation.counts), (std::vector<int64_t>{2, 2, 2, 0}));
    EXPECT_EQ(list_of(permutation.row_token), (std::vector<int64_t>{0, 2, 1, 2, 0, 1}));
    EXPECT_EQ(list_of(permutation.token_offsets), (std::vector<int64_t>{0, 2, 4, 6}));
    EXPECT_EQ(list_of(permutation.token_rows), (std::vector<int64_t>{0, 4, 2, 5, 1, 3}));
    EXPECT_EQ(permutation.dropped, 0);
  }
  EXPECT_EQ(list_of(permutation_from_indices(indices, 4).row_choice),
            (std::vector<int64_t>{1, 4, 2, 5, 0, 3}));
  EXPECT_EQ(list_of(permutation_from_map(map_of(indices, 4)).row_choice),
            (std::vector<int64_t>{0, 8, 5, 9, 2, 6}));
}

TEST(ExpertPermutation, DropsByPositionAndByProbability) {
  const at::Tensor indices = at::zeros({4, 1}, at::TensorOptions(at::kLong));
  const at::Tensor probs = at::tensor({0.1, 0.9, 0.5, 0.5}).view({4, 1});
  const auto kept = [&](const PermutationOptions& options) {
    const auto permutation = permutation_from_indices(indices, 2, options, probs);
    EXPECT_EQ(permutation.dropped, 2);
    return list_of(permutation.row_token);
  };
  EXPECT_EQ(kept({.capacity = 2}), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(kept({.capacity = 2, .drop_policy = DropPolicy::probability}),
            (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(kept({.capacity = 2, .pad_to_capacity = true}), (std::vector<int64_t>{0, 1, -1, -1}));
}

TEST(ExpertPermutation, PadsRows) {
  const at::Tensor indices = at::tensor({0, 2, 2}, at::TensorOptions(at::kLong)).view({3, 1});
  const auto permutation = permutation_from_indices(indices, 3, {.row_multiple = 4});
  EXPECT_EQ(list_of(permutation.counts), (std::vector<int64_t>{4, 0, 4}));
  EXPECT_EQ(list_of(permutation.row_token), (std::vector<int64_t>{0, -1, -1, -1, 1, 2, -1, -1}));
}

// 10,000 random routings: no copy is lost or duplicated, and rows are sorted.
TEST(ExpertPermutation, KeepsEveryCopyOfRandomRoutings) {
  RandomCounts random(3);
  for (int i = 0; i < 10000; ++i) {
    const int64_t experts = random.between(1, 12), tokens = random.between(0, 20);
    const int64_t k = random.between(1, experts);
    at::Tensor indices = random_indices(random, tokens, k, experts);
    for (int64_t hole = random.between(0, 3); hole > 0 && tokens > 0; --hole) {  // padding tokens
      indices[random.between(0, tokens - 1)][random.between(0, k - 1)] = -1;
    }
    const int64_t multiple = random.between(1, 4);
    const auto permutation = permutation_from_indices(indices, experts, {.row_multiple = multiple});
    std::map<std::pair<int64_t, int64_t>, int> copies;  // of (token, expert)
    const auto* chosen = indices.const_data_ptr<int64_t>();
    int64_t expected_copies = 0;
    for (int64_t j = 0; j < tokens * k; ++j) {
      if (chosen[j] < 0) continue;
      ++copies[{j / k, chosen[j]}];
      ++expected_copies;
    }
    const auto counts = list_of(permutation.counts), row_token = list_of(permutation.row_token);
    int64_t row = 0;
    for (int64_t expert = 0; expert < experts; ++expert) {
      ASSERT_EQ(counts[expert] % multiple, 0);
      int64_t previous = -1;
      bool padding = false;
      for (int64_t end = row + counts[expert]; row < end; ++row) {
        if (row_token[row] < 0) {
          padding = true;
          continue;
        }
        ASSERT_FALSE(padding) << "a token after padding rows";
        ASSERT_GT(row_token[row], previous) << "not in the order of the tokens";
        previous = row_token[row];
        const auto copy = copies.find({row_token[row], expert});
        ASSERT_TRUE(copy != copies.end() && copy->second == 1) << "a copy that was not routed";
        copies.erase(copy);
        const int64_t choice = permutation.row_choice[row].item<int64_t>();
        ASSERT_EQ(choice / k, row_token[row]);
        ASSERT_EQ(chosen[choice], expert);
      }
    }
    ASSERT_EQ(row, permutation.rows());
    ASSERT_TRUE(copies.empty()) << "a copy was lost";
    const auto offsets = list_of(permutation.token_offsets), rows = list_of(permutation.token_rows);
    ASSERT_EQ(static_cast<int64_t>(rows.size()), expected_copies);
    for (int64_t token = 0; token < tokens; ++token) {
      for (int64_t j = offsets[token]; j < offsets[token + 1]; ++j) {
        ASSERT_EQ(row_token[rows[j]], token);
        ASSERT_TRUE(j == offsets[token] || rows[j] > rows[j - 1]);
      }
    }
  }
}

TEST(ExpertPermutation, CapacityHoldsForRandomRoutings) {
  RandomCounts random(4);
  for (int i = 0; i < 1000; ++i) {
    const int64_t experts = random.between(1, 8), tokens = random.between(1, 30);
    const int64_t k = random.between(1, experts), capacity = random.between(1, 8);
    const at::Tensor indices = random_indices(random, tokens, k, experts);
    const at::Tensor probs = random_tensor({tokens, k}, at::kFloat, i).mul(3).round();  // with ties
    const bool by_probability = random.between(0, 1) == 1;
    const auto permutation = permutation_from_indices(
        indices, experts,
        {.capacity = capacity,
         .drop_policy = by_probability ? DropPolicy::probability : DropPolicy::position},
        probs);
    const auto full = permutation_from_indices(indices, experts);
    int64_t row = 0, full_row = 0, dropped = 0;
    for (int64_t expert = 0; expert < experts; ++expert) {
      const int64_t count = permutation.counts[expert].item<int64_t>();
      const int64_t wanted = full.counts[expert].item<int64_t>();
      ASSERT_EQ(count, std::min(wanted, capacity));
      dropped += wanted - count;
      // By a plain selection: the highest first, of equal ones the earliest.
      std::vector<std::pair<double, int64_t>> candidates;
      for (int64_t j = full_row; j < full_row + wanted; ++j) {
        const int64_t choice = full.row_choice[j].item<int64_t>();
        const double prob = probs.view({-1})[choice].item<double>();
        candidates.push_back({by_probability ? -prob : 0, choice});
      }
      std::sort(candidates.begin(), candidates.end());
      candidates.resize(count);
      std::sort(candidates.begin(), candidates.end(),
                [](const auto& a, const auto& b) { return a.second < b.second; });
      for (int64_t j = 0; j < count; ++j) {
        ASSERT_EQ(permutation.row_choice[row + j].item<int64_t>(), candidates[j].second);
      }
      row += count;
      full_row += wanted;
    }
    ASSERT_EQ(permutation.dropped, dropped);
  }
}

// x, probs and the permutation of random indices.
struct PermuteCase {
  ExpertPermutation permutation;
  at::Tensor x, probs;
};

PermuteCase permute_case(at::ScalarType dtype, const PermutationOptions& options, int64_t h) {
  RandomCounts random(5);
  const at::Tensor indices = random_indices(random, 40, 3, 7);
  indices[4].fill_(-1);  // a token without rows
  return {permutation_from_indices(indices, 7, options), random_tensor({40, h}, dtype, 1),
          random_tensor({40, 3}, dtype == at::kDouble ? at::kDouble : at::kFloat, 2).sigmoid()};
}

TEST(Permute, MatchesUnfused) {
  for (const auto dtype : all_dtypes()) {
    for (const auto& options :
         {PermutationOptions{}, {.row_multiple = 16}, {.capacity = 5, .pad_to_capacity = true}}) {
      for (const int64_t h : {1, 37, 64}) {
        const PermuteCase in = permute_case(dtype, options, h);
        const auto& permutation = in.permutation;
        expect_like_reference(
            [&](const auto& t) { return permute(t[0], permutation); },
            in_fp64([&](const auto& t) { return unfused::permute(t[0], permutation); }), {in.x},
            tolerance(dtype), "permute");
        const at::Tensor rows = random_tensor({permutation.rows(), h}, dtype, 3);
        expect_like_reference(
            [&](const auto& t) { return unpermute(t[0], permutation); },
            in_fp64([&](const auto& t) { return unfused::unpermute(t[0], permutation, {}); }),
            {rows}, tolerance(dtype), "unpermute");
        // With the router's probabilities, gradients of which go back to the router.
        expect_like_reference(
            [&](const auto& t) {
              return unpermute(t[0], permutation, permute_probs(t[1], permutation));
            },
            in_fp64([&](const auto& t) {
              return unfused::unpermute(t[0], permutation,
                                        unfused::permute_probs(t[1], permutation));
            }),
            {rows, in.probs}, tolerance(dtype), "unpermute with probabilities");
      }
    }
  }
}

TEST(Permute, GradientsMatchFiniteDifferences) {
  const PermuteCase in = permute_case(at::kDouble, {.row_multiple = 4}, 3);
  expect_gradients_by_differences(
      [&](const auto& t) {
        const at::Tensor rows = permute(t[0], in.permutation);
        return unpermute(rows * rows, in.permutation, permute_probs(t[1], in.permutation));
      },
      {in.x, in.probs});
}

// An identity expert returns the input times the sum of its probabilities.
TEST(Permute, IdentityExperts) {
  const PermuteCase in = permute_case(at::kDouble, {}, 8);
  const at::Tensor y = unpermute(permute(in.x, in.permutation), in.permutation,
                                 permute_probs(in.probs, in.permutation));
  at::Tensor sums = in.probs.sum(1, /*keepdim=*/true);
  sums[4] = 0;
  expect_close(y, in.x * sums, 1e-12);
}

TEST(Permute, NoTokens) {
  const auto permutation =
      permutation_from_indices(at::zeros({0, 2}, at::TensorOptions(at::kLong)), 3);
  for (const auto dtype : all_dtypes()) {
    const at::Tensor rows = permute(at::zeros({0, 4}, dtype), permutation);
    EXPECT_EQ(rows.sizes(), (std::vector<int64_t>{0, 4}));
    EXPECT_EQ(unpermute(rows, permutation).sizes(), (std::vector<int64_t>{0, 4}));
  }
}

TEST(SortChunks, MatchesUnfusedAndBack) {
  const at::Tensor sizes = counts_tensor({3, 0, 4, 1}), order = counts_tensor({2, 1, 3, 0});
  const at::Tensor x = random_tensor({8, 2, 5}, at::kFloat, 1);
  expect_like_reference([&](const auto& t) { return sort_chunks(t[0], sizes, order); },
                        [&](const auto& t) { return unfused::sort_chunks(t[0], sizes, order); },
                        {x}, 0, "sort_chunks");
  const at::Tensor sorted = sort_chunks(x, sizes, order);
  expect_identical(sorted, at::cat({x.narrow(0, 3, 4), x.narrow(0, 7, 1), x.narrow(0, 0, 3)}));
  expect_identical(sort_chunks(sorted, counts_tensor({4, 0, 1, 3}), counts_tensor({3, 1, 0, 2})),
                   x);
}

TEST(Permute, RefusesBadArguments) {
  const auto indices = [](const std::vector<int64_t>& values) {
    return counts_tensor(values).view({-1, 2});
  };
  expect_error(
      [&] {
        permutation_from_indices(indices({0, 3}), 3);
      },
      "Expected indices from 0 to 2, or -1 for none, but got 3 for token 0");
  expect_error(
      [&] {
        permutation_from_indices(indices({0, 1, 2, 2}), 3);
      },
      "got expert 2 twice for token 1");
  expect_error([&] { permutation_from_map(at::zeros({2, 3})); }, "dtype bool");
  expect_error(
      [&] {
        permutation_from_indices(indices({0, 1}), 3, {.pad_to_capacity = true});
      },
      "Expected a capacity with pad_to_capacity");
  expect_error(
      [&] {
        permutation_from_indices(indices({0, 1}), 3,
                                 {.capacity = 5, .pad_to_capacity = true, .row_multiple = 4});
      },
      "8 works");
  const auto permutation = permutation_from_indices(indices({0, 1}), 3);
  expect_error([&] { permute(at::zeros({2, 4}), permutation); }, "Expected x of shape [1, h]");
  expect_error([&] { unpermute(at::zeros({1, 4}), permutation); }, "Expected rows of shape [2, h]");
  expect_error(
      [&] {
        unpermute(at::zeros({2, 4}), permutation, at::zeros({3}));
      },
      "Expected weights of shape [2]");
  expect_error(
      [&] {
        permute_probs(at::zeros({1, 3}), permutation);
      },
      "Expected probs of shape [1, 2]");
  expect_error(
      [&] {
        sort_chunks(at::zeros({4, 1}), counts_tensor({1, 2}), counts_tensor({0, 1}));
      },
      "add up to 4 rows");
  expect_error(
      [&] {
        sort_chunks(at::zeros({3, 1}), counts_tensor({1, 2}), counts_tensor({0, 0}));
      },
      "Expected order to be a permutation of 2 chunks");
}

}  // namespace
}  // namespace megatron::test
