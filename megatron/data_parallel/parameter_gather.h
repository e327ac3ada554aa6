// The gather of parameters that every rank has updated a slice of, ahead of the parts of the model
// that read them.
#pragma once

#include <map>

#include "megatron/data_parallel/parameter_buffer.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

class ParameterGather {
 public:
  // `overlap`: gathers are started together and waited for one by one, where a part reads them.
  ParameterGather(ParameterBuffer& buffer, const ProcessGroup& group, bool overlap);

  // Starts the gathers of the buckets from `end` (not included) on that have not been started yet:
  // 0 starts all. Buckets are started from the last, which is read first, in the same order on
  // every rank.
  void start_down_to(size_t end);
  // The end of an update: starts what is left, and waits for it where nothing is to overlap.
  void finish_update();

  // Waits for what holds these parameters.
  void wait_for(const std::vector<ParameterPtr>& parameters);
  void wait_for_all();

 private:
  void wait(size_t bucket);

  ParameterBuffer& buffer_;
  const ProcessGroup& group_;
  bool overlap_;
  std::map<const Parameter*, size_t> bucket_of_;
  std::vector<std::shared_ptr<Pending>> pending_;
  size_t started_;  // buckets from this one on have been started in this update
};

}  // namespace megatron
