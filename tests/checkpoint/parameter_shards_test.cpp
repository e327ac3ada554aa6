// Slices of a parameter's flattened local tensor, assembled from all ranks.
#include "megatron/checkpoint/parameter_shards.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/formats/rectangle.h"

namespace megatron {
namespace {

TEST(ParameterSliceShards, TileTheParameterOverAllRanks) {
  struct Case {
    std::vector<int64_t> local_shape;
    int dim, stride, ranks;
  };
  for (const Case& c : {Case{{8, 5}, 0, 2, 2}, Case{{6, 4}, 1, 1, 3}, Case{{4, 6}, 1, 2, 2},
                        Case{{7}, 0, 1, 2}, Case{{3, 5}, -1, 1, 1}}) {
    std::vector<Rectangle> regions;
    at::Tensor whole;
    for (int rank = 0; rank < c.ranks; ++rank) {
      const Parameter parameter(c.local_shape, at::TensorOptions().dtype(at::kDouble),
                                {c.dim, c.stride, rank, c.ranks}, Initialization::constant(0));
      const std::vector<int64_t> shape = parameter.global_shape();
      if (!whole.defined()) whole = at::zeros(shape, at::kDouble);
      const at::Tensor expected = at::arange(whole.numel(), at::kDouble).view(shape);
      const at::Tensor local = parameter.local_part(expected).contiguous().view(-1);
      constexpr int64_t kSlice = 7;
      for (int64_t begin = 0; begin < local.numel(); begin += kSlice) {
        const at::Tensor part =
            local.narrow(0, begin, std::min(kSlice, local.numel() - begin)).clone();
        for (const ShardedTensor& shard :
             parameter_slice_shards(parameter, begin, part, "w", /*replica_id=*/0)) {
          EXPECT_EQ(shard.global_shape, shape);
          at::Tensor target = whole;
          for (int64_t d = 0; d < target.dim(); ++d)
            target = target.narrow(d, shard.global_offset[d], shard.data.size(d));
          target.copy_(shard.data);
          regions.push_back({shard.global_offset, shard.data.sizes().vec()});
        }
      }
    }
    check_tiling("w", whole.sizes().vec(), regions);
    EXPECT_TRUE(at::equal(whole.view(-1), at::arange(whole.numel(), at::kDouble)));
  }
}

}  // namespace
}  // namespace megatron
