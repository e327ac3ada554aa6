// Transfers between a stage and its neighbours while it runs its list of a schedule.
#pragma once

#include <map>
#include <memory>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"
#include "megatron/pipeline/schedule.h"

namespace megatron {

// Steps are indices into this stage's list. Every transfer that begins must end; stage_actions()
// decides when.
class Transfers {
 public:
  Transfers(const PipelineSchedule& schedule, const ProcessGroup& pp);

  // Whether the step's result is sent to another stage.
  bool sends(size_t step) const { return destination(step).has_value(); }

  // The step's input. end_receive() waits for it.
  void begin_receive(size_t step, at::Tensor into);
  at::Tensor end_receive(size_t step);
  // The step's result, which stays alive until end_send() has waited for the transfer.
  void begin_send(size_t step, const at::Tensor& result);
  void end_send(size_t step);

 private:
  struct Receive {
    std::shared_ptr<Work> work;
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
