// What passes between a stage and its neighbours while it runs its list of a schedule.
#pragma once

#include <map>
#include <memory>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

// Steps go by their place in this stage's list. What begins must end; when is up to
// stage_actions().
class Transfers {
 public:
  Transfers(const PipelineSchedule& schedule, const ProcessGroup& pp);

  // Whether another stage takes in the step's result.
  bool sends(size_t step) const { return destination(step).has_value(); }

  // What the step takes in; the end waits until it is there.
  void begin_receive(size_t step, at::Tensor into);
  at::Tensor end_receive(size_t step);
  // The step's result, which is kept until the end: that waits until it has gone.
  void begin_send(size_t step, const at::Tensor& result);
  void end_send(size_t step);

 private:
  struct Receive {
    std::shared_ptr<Work> pending;
    at::Tensor tensor;
  };

  std::optional<PlacedStep> destination(size_t step) const;

  const std::vector<PipelineStep>& steps_;
  const ProcessGroup& pp_;
  int chunks_;
  std::map<size_t, Receive> receives_;
  std::map<size_t, std::shared_ptr<Work>> sends_;
};

}  // namespace megatron
