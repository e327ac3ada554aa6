#include "megatron/data_parallel/bucket_shards.h"

#include <utility>

#include <ATen/ATen.h>

namespace megatron {
namespace {

// [ranks, shard_numel] of a piece.
at::Tensor piece_by_rank(const at::Tensor& full, const BucketPiece& piece, int ranks) {
  return full.narrow(0, piece.start, ranks * piece.shard_numel).view({ranks, piece.shard_numel});
}

// Calls visit(piece of `full`, piece of `staging`), both [ranks, n], for each piece of n elements a
// rank. `staging` is [ranks, shard_numel(layout)].
template <typename Visit>
void visit_pieces(const BucketLayout& layout, const at::Tensor& full, const at::Tensor& staging,
                  const Visit& visit) {
  const at::NoGradGuard no_grad;
  const auto ranks = static_cast<int>(staging.size(0));
  int64_t offset = 0;  // within a shard
  for (const BucketPiece& piece : layout.pieces) {
    visit(piece_by_rank(full, piece, ranks), staging.narrow(1, offset, piece.shard_numel));
    offset += piece.shard_numel;
  }
}

at::Tensor staging_of(const BucketLayout& layout, const at::Tensor& full, int ranks) {
  return at::empty({ranks, shard_numel(layout)}, full.options());
}

// A gather into a staging tensor, which wait() copies into the bucket.
class StagedGather final : public Work {
 public:
  StagedGather(const BucketLayout& layout, at::Tensor full, at::Tensor staging,
               std::shared_ptr<Work> work)
      : layout_(layout),
        full_(std::move(full)),
        staging_(std::move(staging)),
        work_(std::move(work)) {}
  void wait() override {
    work_->wait();
    visit_pieces(layout_, full_, staging_,
                 [](const at::Tensor& piece, const at::Tensor& staged) { piece.copy_(staged); });
    staging_.reset();
  }

 private:
  const BucketLayout& layout_;
  at::Tensor full_, staging_;
  std::shared_ptr<Work> work_;
};

}  // namespace

int64_t shard_numel(const BucketLayout& layout) {
  int64_t numel = 0;
  for (const BucketPiece& piece : layout.pieces) numel += piece.shard_numel;
  return numel;
}

// The only piece starts with the bucket: the ranks' shards lie in rank order.
bool is_staged(const BucketLayout& layout) {
  return layout.pieces.size() != 1;
}

at::Tensor copy_of_shard(const BucketLayout& layout, const at::Tensor& full,
                         const ProcessGroup& group) {
  const at::NoGradGuard no_grad;
  const at::Tensor shard = at::empty({shard_numel(layout)}, full.options());
  int64_t offset = 0;
  for (const BucketPiece& piece : layout.pieces) {
    shard.narrow(0, offset, piece.shard_numel)
        .copy_(full.narrow(0, piece.start + group.rank() * piece.shard_numel, piece.shard_numel));
    offset += piece.shard_numel;
  }
  return shard;
}

std::shared_ptr<Work> start_all_gather(const BucketLayout& layout, const at::Tensor& full,
                                       const at::Tensor& shard, const ProcessGroup& group) {
  if (!is_staged(layout)) {
    return group.iall_gather(full.narrow(0, 0, group.size() * shard.numel()), shard);
  }
  const at::Tensor staging = staging_of(layout, full, group.size());
  auto work = group.iall_gather(staging.view(-1), shard);
  return std::make_shared<StagedGather>(layout, full, staging, std::move(work));
}

std::shared_ptr<Work> start_reduce_scatter(const BucketLayout& layout, const at::Tensor& shard,
                                           const at::Tensor& full, const ProcessGroup& group) {
  if (!is_staged(layout)) {
    return group.ireduce_scatter(shard, full.narrow(0, 0, group.size() * shard.numel()));
  }
  const at::Tensor staging = staging_of(layout, full, group.size());
  visit_pieces(layout, full, staging,
               [](const at::Tensor& piece, const at::Tensor& staged) { staged.copy_(piece); });
  return group.ireduce_scatter(shard, staging.view(-1));
}

}  // namespace megatron
