// Bucket sizes by Megatron's rule, for the model of its tests: ten layers of 95 x 95.
#include "megatron/data_parallel/parameter_buckets.h"

#include <limits>
#include <numeric>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data_parallel/scripted_model.h"

namespace megatron {
namespace {

ParameterPtr parameter_of(std::vector<int64_t> shape, at::ScalarType dtype = at::kFloat) {
  return std::make_shared<Parameter>(std::move(shape), at::TensorOptions().dtype(dtype),
                                     TensorParallelSharding{}, Initialization::constant(0));
}

std::vector<ParameterPtr> ten_layers(bool bias) {
  std::vector<ParameterPtr> parameters;
  for (int layer = 0; layer < 10; ++layer) {
    parameters.push_back(parameter_of({95, 95}));
    if (bias) parameters.push_back(parameter_of({95}));
  }
  return parameters;
}

DistributedDataParallelConfig config_of(std::optional<int64_t> bucket_size, bool sharded) {
  DistributedDataParallelConfig config;
  config.bucket_size = bucket_size;
  config.use_distributed_optimizer = sharded;
  return config;
}

int64_t rounded(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Sums sizes in order and closes a bucket where it reaches the bucket size.
std::vector<int64_t> expected_sizes(const std::vector<ParameterPtr>& parameters,
                                    int64_t bucket_size, int64_t end) {
  std::vector<int64_t> sizes;
  int64_t filled = 0;
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    filled = rounded(filled, 64) + (*it)->data.numel();
    if (filled < bucket_size) continue;
    sizes.push_back(rounded(filled, end));
    filled = 0;
  }
  if (filled > 0) sizes.push_back(rounded(filled, end));
  return sizes;
}

TEST(ParameterBuckets, SizesFollowTheRule) {
  for (const bool sharded : {false, true}) {
    for (const bool bias : {false, true}) {
      for (const int64_t size : {1, 9000, 9025, 9050, 18040, 18050, 20000}) {
        for (const int ranks : {1, 2, 3, 8}) {
          const auto parameters = ten_layers(bias);
          std::vector<int64_t> sizes;
          for (const BucketLayout& bucket :
               plan_buckets(parameters, {config_of(size, sharded), ranks})) {
            sizes.push_back(bucket.numel);
            for (const BucketSlot& slot : bucket.slots) EXPECT_EQ(slot.start % 64, 0);
          }
          const int64_t end = sharded ? std::lcm(ranks, 128) : 64;
          EXPECT_EQ(sizes, expected_sizes(parameters, size, end)) << size << ' ' << ranks;
        }
      }
    }
  }
}

TEST(ParameterBuckets, ContainEveryParameterOnceInReverse) {
  const auto parameters = ten_layers(true);
  std::vector<ParameterPtr> contained;
  for (const BucketLayout& bucket : plan_buckets(parameters, {config_of(20000, true), 2})) {
    for (const BucketSlot& slot : bucket.slots) contained.push_back(slot.parameter);
  }
  EXPECT_EQ(contained, std::vector<ParameterPtr>(parameters.rbegin(), parameters.rend()));
}

TEST(ParameterBuckets, ASmallModelHasOneByDefault) {
  EXPECT_EQ(plan_buckets(ten_layers(true), {config_of({}, false), 4}).size(), 1u);
}

// Megatron's default: 40e6 elements, from 41 ranks on 1e6 for each, if reductions overlap. Without
// overlap all gradients are one bucket.
TEST(ParameterBuckets, TheDefaultSizeDependsOnRanksAndOverlap) {
  DistributedDataParallelConfig config;
  EXPECT_EQ(BucketRules(config, 8).bucket_size, std::numeric_limits<int64_t>::max());
  config.overlap_grad_reduce = true;
  EXPECT_EQ(BucketRules(config, 8).bucket_size, 40'000'000);
  EXPECT_EQ(BucketRules(config, 64).bucket_size, 64'000'000);
  config.bucket_size = 5;
  EXPECT_EQ(BucketRules(config, 64).bucket_size, 5);
}

TEST(ParameterBuckets, ArePaddedForBandwidth) {
  DistributedDataParallelConfig config = config_of(9025, /*sharded=*/true);
  config.pad_buckets_for_high_nccl_busbw = true;
  for (const int ranks : {2, 3}) {
    for (const BucketLayout& bucket : plan_buckets(ten_layers(false), {config, ranks}))
      EXPECT_EQ(bucket.numel, ranks == 3 ? 3 << 16 : 1 << 16);
  }
}

// ceil(rows / ranks) rows of every parameter lie in a shard.
TEST(ParameterBuckets, ShardsByRowsHaveAPieceForEachParameter) {
  DistributedDataParallelConfig config;
  config.use_torch_fsdp2 = true;
  auto parameters = ten_layers(true);
  parameters[3]->shared_embedding = true;
  const auto buckets = plan_buckets(parameters, {config, 4});
  ASSERT_EQ(buckets.size(), 1u);
  ASSERT_EQ(buckets[0].pieces.size(), buckets[0].slots.size());
  for (size_t i = 0; i < buckets[0].slots.size(); ++i) {
    const auto& [parameter, start] = buckets[0].slots[i];
    EXPECT_EQ(buckets[0].pieces[i].start, start);
    EXPECT_EQ(buckets[0].pieces[i].shard_numel, parameter->data.dim() == 2 ? 24 * 95 : 24);
  }
}

// The reductions of a step show the buckets.
TEST(ParameterBuckets, AChunkIsDividedIntoAtMostNumBuckets) {
  const auto count = [](const DistributedDataParallelConfig& config, bool disable_bucketing) {
    Script script;
    const ScriptedModel model(script);  // four layers of 256
    DistributedDataParallel ddp(model.module_groups(), config, commanded_group(script),
                                disable_bucketing);
    ddp.zero_gradients();
    ddp.finish_gradients();
    int reductions = 0;
    while (script.happened(fmt::format("start all_reduce {}", reductions)) ||
           script.happened(fmt::format("start reduce_scatter {}", reductions)))
      ++reductions;
    return reductions;
  };
  for (const bool sharded : {false, true}) {
    DistributedDataParallelConfig config = config_of({}, sharded);
    EXPECT_EQ(count(config, false), 1);
    for (const auto& [most, expected] : {std::pair{1, 1}, {2, 2}, {3, 2}, {4, 4}, {100, 4}}) {
      config.num_buckets = most;
      EXPECT_EQ(count(config, false), expected) << most;
      EXPECT_EQ(count(config, true), 1) << most;
    }
    config = config_of(1, sharded);
    EXPECT_EQ(count(config, false), 4);
    EXPECT_EQ(count(config, /*disable_bucketing=*/true), 1);
  }
}

// Megatron's rule for model chunks.
TEST(ParameterBuckets, OnlyTheFirstChunkIsDivided) {
  for (const size_t chunks : {1, 2, 4}) {
    for (const bool step_overlap : {false, true}) {
      EXPECT_EQ(disables_bucketing(0, chunks, step_overlap), step_overlap && chunks > 1);
      for (size_t chunk = 1; chunk < chunks; ++chunk)
        EXPECT_TRUE(disables_bucketing(chunk, chunks, step_overlap));
    }
  }
}

// All stages with a copy then shard it alike.
TEST(ParameterBuckets, ATiedEmbeddingHasItsOwnBucketWithAShardedOptimizer) {
  for (const bool sharded : {false, true}) {
    auto parameters = ten_layers(false);
    parameters[4]->shared_embedding = true;
    const auto buckets = plan_buckets(parameters, {config_of({}, sharded), 4});
    ASSERT_EQ(buckets.size(), sharded ? 3u : 1u);
    if (!sharded) continue;
    ASSERT_EQ(buckets[1].slots.size(), 1u);
    EXPECT_EQ(buckets[1].slots[0].parameter, parameters[4]);
    EXPECT_EQ(buckets[1].slots[0].start, 0);
  }
}

TEST(ParameterBuckets, ADeferredGradientHasItsOwnBucket) {
  for (const bool sharded : {false, true}) {
    auto parameters = ten_layers(false);
    parameters.back()->gradient_is_deferred = true;
    const auto buckets = plan_buckets(parameters, {config_of({}, sharded), 4});
    ASSERT_EQ(buckets.size(), 2u);
    ASSERT_EQ(buckets[0].slots.size(), 1u);
    EXPECT_EQ(buckets[0].slots[0].parameter, parameters.back());
  }
}

TEST(ParameterBuckets, ADtypeChangeStartsABucket) {
  const std::vector<ParameterPtr> parameters = {parameter_of({8}), parameter_of({8}, at::kBFloat16),
                                                parameter_of({8}, at::kBFloat16)};
  DistributedDataParallelConfig config;
  const auto buckets = plan_buckets(parameters, {config, 2});
  ASSERT_EQ(buckets.size(), 2u);
  EXPECT_EQ(buckets[0].dtype, at::kBFloat16);
  EXPECT_EQ(buckets[0].grad_dtype, at::kBFloat16);
  config.grad_reduce_in_fp32 = true;
  EXPECT_EQ(plan_buckets(parameters, {config, 2})[0].grad_dtype, at::kFloat);
}

}  // namespace
}  // namespace megatron
