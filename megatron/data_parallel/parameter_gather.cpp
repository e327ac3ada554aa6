#include "megatron/data_parallel/parameter_gather.h"

#include <exception>

namespace megatron {

ParameterGather::ParameterGather(const std::vector<BucketLayout>& layouts,
                                 const ProcessGroup& group, bool overlap)
    : buffer_(layouts),
      group_(group),
      overlap_(overlap),
      work_(layouts.size()),
      started_(layouts.size()) {
  for (size_t bucket = 0; bucket < layouts.size(); ++bucket) {
    for (const BucketSlot& slot : layouts[bucket].slots) bucket_of_[slot.parameter.get()] = bucket;
  }
}

ParameterGather::~ParameterGather() {
  if (std::uncaught_exceptions() > 0) return;
  try {
    wait_for_all();
  } catch (const std::exception&) {
    // The rank that caused the failure reports it.
  }
}

void ParameterGather::start_down_to(size_t end) {
  for (; started_ > end; --started_) {
    const size_t bucket = started_ - 1;
    wait(bucket);
    if (group_.size() == 1) continue;
    work_[bucket] = group_.iall_gather(buffer_.bucket(bucket).tensor(), shard(bucket));
  }
}

void ParameterGather::finish_update() {
  start_down_to(0);
  started_ = buffer_.num_buckets();
  if (!overlap_) wait_for_all();
}

void ParameterGather::wait(size_t bucket) {
  if (work_[bucket]) std::exchange(work_[bucket], nullptr)->wait();
}

void ParameterGather::wait_for(const std::vector<ParameterPtr>& parameters) {
  for (const ParameterPtr& parameter : parameters) wait(bucket_of_.at(parameter.get()));
}

void ParameterGather::wait_for_all() {
  for (size_t bucket = work_.size(); bucket > 0; --bucket) wait(bucket - 1);
}

}  // namespace megatron
