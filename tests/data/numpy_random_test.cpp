// numpy's generators against numbers from numpy.
#include "megatron/data/numpy_random.h"

#include <numeric>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/data/mock_dataset.h"

#include "tests/data/golden.h"

namespace megatron {
namespace {

TEST(NumpyRandomState, ShufflesLikeNumpy) {
  std::vector<int32_t> values(20);
  std::iota(values.begin(), values.end(), 0);
  NumpyRandomState(1234).shuffle(std::span<int32_t>(values));
  EXPECT_EQ(values, golden("gpt_dataset.json")["shuffle_1234_20"].get<std::vector<int32_t>>());
}

TEST(NumpyRandomState, RefusesSeedsBeyond32Bits) {
  EXPECT_THROW(NumpyRandomState(-1), Error);
  EXPECT_THROW(NumpyRandomState(int64_t{1} << 32), Error);
  EXPECT_NO_THROW(NumpyRandomState((int64_t{1} << 32) - 1));
}

TEST(NumpyGenerator, DrawsTheLengthsOfMegatronsMockDocuments) {
  const MockLowLevelDataset mock(/*vocab_size=*/1000, /*eod_id=*/999);
  const auto head = golden("gpt_dataset.json")["mock_lengths_head"].get<std::vector<int32_t>>();
  int64_t sum = 0;
  for (int64_t i = 0; i < mock.num_sequences(); ++i) sum += mock.sequence_length(i);
  for (size_t i = 0; i < head.size(); ++i) {
    EXPECT_EQ(mock.sequence_length(static_cast<int64_t>(i)), head[i]) << "document " << i;
  }
  EXPECT_EQ(sum, golden("gpt_dataset.json")["mock_lengths_sum"].get<int64_t>());
}

TEST(MockLowLevelDataset, CountsUpAndEndsTheDocument) {
  const MockLowLevelDataset mock(/*vocab_size=*/1000, /*eod_id=*/999);
  std::vector<int64_t> tokens;
  mock.append_tokens(0, 997, 5, tokens);
  EXPECT_EQ(tokens, (std::vector<int64_t>{998, 999, 0, 1, 2}));
  tokens.clear();
  mock.append_tokens(0, mock.sequence_length(0) - 2, 2, tokens);
  EXPECT_EQ(tokens.back(), 999);
  EXPECT_THROW(mock.append_tokens(0, mock.sequence_length(0), 1, tokens), Error);
  EXPECT_THROW(MockLowLevelDataset(10, 10), Error);
}

}  // namespace
}  // namespace megatron
