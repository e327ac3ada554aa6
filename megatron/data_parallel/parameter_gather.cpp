#include "megatron/data_parallel/parameter_gather.h"

namespace megatron {

ParameterGather::ParameterGather(ParameterBuffer& buffer, const ProcessGroup& group, bool overlap)
    : buffer_(buffer),
      group_(group),
      overlap_(overlap),
      pending_(buffer.num_buckets()),
      started_(buffer.num_buckets()) {
  for (size_t bucket = 0; bucket < buffer.num_buckets(); ++bucket) {
    for (const BucketSlot& slot : buffer.layouts()[bucket].slots)
      bucket_of_[slot.parameter.get()] = bucket;
  }
}

void ParameterGather::start_down_to(size_t end) {
  for (; started_ > end; --started_) {
    const size_t bucket = started_ - 1;
    wait(bucket);
    if (group_.size() == 1) continue;
    const FlatBuffer& values = buffer_.bucket(bucket);
    pending_[bucket] =
        group_.iall_gather(values.tensor(), values.shard(group_.rank(), group_.size()));
  }
}

void ParameterGather::finish_update() {
  start_down_to(0);
  started_ = buffer_.num_buckets();
  if (!overlap_) wait_for_all();
}

void ParameterGather::wait(size_t bucket) {
  if (pending_[bucket]) std::exchange(pending_[bucket], nullptr)->wait();
}

void ParameterGather::wait_for(const std::vector<ParameterPtr>& parameters) {
  for (const ParameterPtr& parameter : parameters) wait(bucket_of_.at(parameter.get()));
}

void ParameterGather::wait_for_all() {
  for (size_t bucket = pending_.size(); bucket > 0; --bucket) wait(bucket - 1);
}

}  // namespace megatron
