// What passes between a stage and its neighbours while it runs its list of a schedule.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

// Steps go by their place in this stage's list. Between two stages messages of one kind are sent
// and received in the same order.
class Transfers {
 public:
  Transfers(const PipelineSchedule& schedule, const ProcessGroup& pp);

  bool receives(size_t step) const { return source(step).has_value(); }
  bool sends(size_t step) const { return destination(step).has_value(); }

  // Begins to receive what the step takes in.
  void post(size_t step, at::Tensor into);
  // What was posted for the step, when it is there.
  at::Tensor receive(size_t step);
  // Begins to send the step's result, which is kept until it has gone. Waits only where more than
  // sends_in_flight() of that kind are on their way.
  void send(size_t step, const at::Tensor& result);
  // When all that was sent has gone.
  void finish();

 private:
  struct Receive {
    std::shared_ptr<Pending> pending;
    at::Tensor tensor;
  };

  std::optional<PlacedStep> source(size_t step) const;
  std::optional<PlacedStep> destination(size_t step) const;

  const std::vector<PipelineStep>& steps_;
  const ProcessGroup& pp_;
  int chunks_;
  size_t in_flight_;
  std::map<size_t, Receive> posted_;
  std::map<PipelineStep::Kind, std::deque<std::shared_ptr<Pending>>> sent_;
};

}  // namespace megatron
